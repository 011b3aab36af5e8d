//! What people see where one row of the database cannot be read.

use crate::world::house::House;

const HOOK: &str = "on: {push: main}\nqueue: all\ndeploy: {strategy: none}\nrun: \"echo hello $DEPLOY_SHA\"";

/// What a command prints, which must end well.
fn said(house: &House, arguments: &[&str]) -> String {
    let output = house.landfall(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}\n{}", house.log());
    String::from_utf8(output.stdout).expect("text") + &complaint
}

#[test]
fn one_row_that_cannot_be_read_is_one_run_that_cannot_be_read_with_the_next_step() {
    let mut house = House::with_hook(HOOK);
    house.start();
    for commit in ["a", "b", "c"] {
        let run = house.queue(&commit.repeat(40));
        assert_eq!(house.ended(run)["outcome"], "succeeded");
    }
    house.stop();
    let database = rusqlite::Connection::open(house.state().join("landfall.db")).expect("a database");
    let damage = "UPDATE job SET job = substr(job, 5) WHERE run IN (2, 3)";
    assert_eq!(database.execute(damage, []).expect("damaged"), 2);
    drop(database);
    house.start();
    let runs = house.json(&["runs"]);
    let words: Vec<_> = runs.as_array().expect("runs").iter().map(|it| (&it["id"], &it["outcome"])).collect();
    assert_eq!(
        words,
        [(&3.into(), &"unreadable".into()), (&2.into(), &"unreadable".into()), (&1.into(), &"succeeded".into())]
    );
    assert!(said(&house, &["runs"]).contains("unreadable"));
    assert!(said(&house, &["status"]).contains("run 3 unreadable"), "{}", said(&house, &["status"]));
    for about in [["show", "2"], ["why", "2"], ["why", "site"]] {
        let said = said(&house, &about);
        assert!(said.contains("cannot be read") && said.contains("landfall deploy site"), "{about:?}: {said}");
    }
    assert!(said(&house, &["log", "2"]).contains(&format!("hello {}", "b".repeat(40))));
    let refused = house.landfall(&["retry", "2"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("cannot be read") && why.contains("landfall deploy"), "{why}");
    let next = house.queue(&"d".repeat(40));
    assert_eq!(house.ended(next)["outcome"], "succeeded");
    house.stop();
}
