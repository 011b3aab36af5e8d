//! Promises about what all releases share.
//!
//! Invariant: each test is one promise.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use landfall::model::{
    deploy::SharedPath,
    run::{Outcome, RunStep},
};

use super::shop::{Shop, link};

fn shared(path: &str) -> SharedPath {
    SharedPath { path: path.into(), required: false, seed: None, mode: None }
}

fn sharing(items: Vec<SharedPath>) -> Shop {
    let mut shop = Shop::running("true");
    shop.keeping().shared = items;
    shop
}

#[test]
fn what_is_required_and_missing_stops_the_run_before_anything_changes() {
    let mut shop = sharing(vec![
        SharedPath { required: true, ..shared(".env") },
        SharedPath { required: true, ..shared("config/key") },
    ]);
    shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    let (env, key) = (shop.path("shared/.env"), shop.path("shared/config/key"));
    let missing = format!("`{}`, `{}` are required and not there", env.display(), key.display());
    assert!(ended.said().1.starts_with(&missing), "{}", ended.said().1);
    assert_eq!(ended.outcome().step(), Some(RunStep::Preflight));
    assert!(!shop.path("").exists());
    fs::create_dir_all(shop.path("shared/config")).expect("made");
    for path in [env, key] {
        fs::write(path, "x").expect("a file");
    }
    assert_eq!(shop.deploy().outcome(), Outcome::Succeeded);
    assert_eq!((shop.served(".env"), shop.served("config/key")), ("x".into(), "x".into()));
    assert_eq!(link(&shop.site().current().join("config/key")), "../../../shared/config/key");
}

#[test]
fn what_is_required_by_now_keeps_nobody_from_going_back_to_what_did_without() {
    let mut shop = sharing(Vec::new());
    let first = shop.good(&[("index.html", "one\n")]);
    shop.good(&[("index.html", "two\n")]);
    shop.keeping().shared = vec![SharedPath { required: true, ..shared("key") }];
    assert_eq!(shop.go_back_to(&first).outcome(), Outcome::Succeeded);
}

#[test]
fn a_seed_is_copied_once_and_what_is_written_later_stays() {
    let seeded = SharedPath { seed: Some(".env.example".into()), mode: Some(0o640), ..shared(".env") };
    let mut shop = sharing(vec![seeded, shared("storage")]);
    shop.good(&[(".env.example", "A=1\n")]);
    assert_eq!(shop.served(".env"), "A=1\n");
    let mode = fs::metadata(shop.path("shared/.env")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    fs::write(shop.path("shared/.env"), "A=mine\n").expect("written");
    fs::write(shop.site().current().join("storage/upload"), "picture").expect("written");
    shop.good(&[(".env.example", "A=2\n")]);
    assert_eq!((shop.served(".env"), shop.served("storage/upload")), ("A=mine\n".into(), "picture".into()));
}

#[test]
fn what_the_commit_has_at_a_shared_path_gives_way_and_may_be_the_seed() {
    let mut shop = sharing(vec![SharedPath { seed: Some("data".into()), ..shared("data") }]);
    shop.good(&[("data/inner/a", "first")]);
    assert_eq!(
        (shop.served("data/inner/a"), link(&shop.site().current().join("data"))),
        ("first".into(), "../../shared/data".into())
    );
    shop.commit(&[("data/inner/a", "second"), ("data/b", "new")]);
    let ended = shop.deploy();
    assert_eq!((shop.served("data/inner/a"), shop.served("data/b")), ("first".into(), String::new()));
    assert!(ended.output().contains(&"`data` of the commit gives way to the shared one".to_owned()));
}

#[test]
fn a_file_of_the_commit_is_not_hidden_by_an_empty_folder() {
    let mut shop = sharing(vec![shared("settings.json")]);
    shop.commit(&[("settings.json", "{}")]);
    let (word, reason) = shop.deploy().said();
    assert!(word == "failed" && reason.contains("{path: settings.json, seed: settings.json}"), "{reason}");
    assert!(!shop.path("shared/settings.json").exists() && shop.live().is_none());
}

#[test]
fn a_link_that_leads_out_of_shared_is_refused_before_anything_changes() {
    for target in ["/etc", "../../elsewhere"] {
        let mut shop = sharing(vec![shared("storage/inner")]);
        fs::create_dir_all(shop.path("shared")).expect("made");
        fs::create_dir_all(shop.state.path().join("elsewhere")).expect("made");
        symlink(target, shop.path("shared/storage")).expect("a link");
        shop.commit(&[("index.html", "one\n")]);
        let ended = shop.deploy();
        assert!(ended.said().1.contains("is a link that leads out of"), "{:?}", ended.said());
        assert_eq!((ended.outcome().step(), shop.names_in("")), (Some(RunStep::Preflight), vec!["shared".to_owned()]));
    }
}

#[test]
fn shared_paths_that_are_one_by_a_link_of_the_commit_are_refused() {
    for items in [[shared("a/b"), shared("c")], [shared("c"), shared("a/b")]] {
        let mut shop = sharing(items.to_vec());
        let remote = shop.state.path().join("remote");
        fs::create_dir(remote.join("c")).expect("made");
        fs::write(remote.join("c/d"), "").expect("a file");
        symlink("c", remote.join("a")).expect("a link");
        shop.commit_all();
        let ended = shop.deploy();
        let (word, reason) = ended.said();
        assert!(word == "failed" && reason.contains("`a` of the commit is a link to `c`"), "{reason}");
        assert_eq!((ended.outcome().step(), shop.live()), (Some(RunStep::Shared), None));
    }
}

#[test]
fn releases_that_would_not_find_what_they_share_are_refused_before_anything_changes() {
    let mut shop = sharing(vec![shared("storage")]);
    let elsewhere = shop.state.path().join("big/disk/releases");
    for folder in [elsewhere.clone(), shop.path("")] {
        fs::create_dir_all(folder).expect("made");
    }
    symlink(&elsewhere, shop.path("releases")).expect("a link");
    shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    let (word, reason) = ended.said();
    assert!(word == "failed" && reason.ends_with("mount that folder there instead"), "{reason}");
    assert_eq!((ended.outcome().step(), shop.names_in("")), (Some(RunStep::Preflight), vec!["releases".to_owned()]));
}

#[test]
fn a_link_of_the_commit_leads_neither_a_shared_path_nor_a_seed_out_of_the_tree() {
    let seeded = |seed: &str| SharedPath { seed: Some(PathBuf::from(seed)), ..shared("storage/key") };
    type Trick = fn(&std::path::Path);
    let cases: [(SharedPath, Trick); 3] = [
        (shared("config/key"), |remote| symlink("/tmp", remote.join("config")).expect("a link")),
        (seeded("passwd"), |remote| symlink("/etc/passwd", remote.join("passwd")).expect("a link")),
        (seeded("seed"), |remote| {
            fs::create_dir(remote.join("seed")).expect("made");
            symlink("../../../../../../../../etc/passwd", remote.join("seed/a")).expect("a link");
        }),
    ];
    for (item, trick) in cases {
        let mut shop = sharing(vec![item.clone()]);
        trick(&shop.state.path().join("remote"));
        shop.commit_all();
        let ended = shop.deploy();
        assert_eq!((ended.said().0, ended.outcome().step()), ("failed", Some(RunStep::Shared)), "{item:?}");
        assert!(ended.said().1.contains("leads out of"), "{:?}", ended.said());
        assert!(shop.live().is_none() && !shop.path("shared").join(&item.path).exists());
    }
}

#[test]
fn folders_and_files_of_a_release_get_the_modes_that_the_umask_of_the_hook_leaves() {
    let mut shop = sharing(vec![shared("storage/logs")]);
    shop.git().umask = 0o007;
    let name = shop.good(&[("index.html", "one\n")]);
    let mode = |place: &str| fs::metadata(shop.path(place)).expect(place).permissions().mode() & 0o777;
    let tree = format!("releases/{name}");
    for folder in ["releases", "shared", "shared/storage", "shared/storage/logs", &tree] {
        assert_eq!(mode(folder), 0o770, "{folder}");
    }
    for file in ["index.html", "REVISION"] {
        assert_eq!(mode(&format!("{tree}/{file}")), 0o660, "{file}");
    }
}
