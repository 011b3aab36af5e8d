//! Promises about what a script prints: all of it is kept, in order, without secrets, within bounds.
//!
//! Invariant: each test is one promise.

use std::fs;

use landfall::journal::log::Kind;

use super::bench::{log, running};

#[test]
fn standard_output_and_error_keep_their_order() {
    let ended = running("i=0; while [ $i -lt 500 ]; do echo $i; echo $i >&2; i=$((i+1)); done").finish();
    let expected: Vec<_> = (0..500).flat_map(|it| [it.to_string(), it.to_string()]).collect();
    assert_eq!(ended.output(), expected);
    let times: Vec<_> = log(&ended.bench.dir).iter().map(|it| it.at).collect();
    assert!(times.is_sorted());
}

#[test]
fn no_secret_reaches_the_disk_however_it_is_printed() {
    let key = "-----BEGIN KEY-----\nc2VjcmV0LWxpbmU\nxy\n-----END KEY-----";
    let text = r#"
        printf 'token is hun'; printf 'ter2hun'; printf 'ter2.\n'
        echo "$KEY"
        echo "$KEY" | sed 's/^/> /'
        echo "pin $PIN" >&2
        echo "link=https://x/?t=$TOKEN" >> "$DEPLOY_OUTPUT"
        echo "$TOKEN=a key" >> "$DEPLOY_OUTPUT"
        echo "reason=token $TOKEN" >> "$DEPLOY_OUTPUT"
        exit 78
    "#;
    let bench = running(text).secret("TOKEN", "hunter2hunter2").secret("KEY", key).secret("PIN", "4711");
    let ended = bench.finish();
    let expected = ["token is ***.", "***", "> ***", "> ***", "> xy", "> ***", "pin ***"];
    assert_eq!(ended.output(), expected);
    assert_eq!(ended.said(), ("skipped", "token ***".into()));
    let fields = ended.facts().fields;
    assert_eq!((fields[0].1.as_str(), fields[1].0.as_str()), ("https://x/?t=***", "***"));
    assert!(ended.has_remark("secret `PIN` is shorter than 6 bytes"));
    assert!(!ended.has_remark("secret `TOKEN`"));
    for entry in fs::read_dir(ended.bench.dir.path()).expect("folder") {
        let text = String::from_utf8_lossy(&fs::read(entry.expect("entry").path()).expect("file")).into_owned();
        assert!(!text.contains("hunter2") && !text.contains("c2VjcmV0"), "{text}");
    }
}

#[test]
fn a_line_shows_before_the_script_ends_and_survives_a_kill_of_the_keeper() {
    let mut keeper = running("echo first; echo second; sleep 1000").start();
    keeper.until_line("second").signal(rustix::process::Signal::KILL);
    keeper.child.wait().expect("waited");
    let lines: Vec<_> = log(&keeper.bench.dir).into_iter().filter(|it| it.kind == Kind::Output).collect();
    assert_eq!(lines.iter().map(|it| it.text()).collect::<Vec<_>>(), ["first", "second"]);
    let begin = super::bench::begin(&keeper.bench.dir);
    let token = &keeper.bench.token;
    landfall::keeper::end_leftovers(token, &begin, std::time::Duration::ZERO).expect("all ended");
}

#[test]
fn a_log_over_its_cap_loses_its_middle_and_says_so() {
    let cap = 1 << 20;
    let ended = running("seq 1 200000").hook(|it| it.max_log_bytes = cap).finish();
    let lines = log(&ended.bench.dir);
    let output = ended.output();
    assert_eq!((output[0].as_str(), output.last().map(String::as_str)), ("1", Some("200000")));
    assert_eq!(lines.iter().filter(|it| it.kind == Kind::Cut).count(), 1);
    let is_log = |name: &str| name == "log" || name.starts_with("log.");
    let files = fs::read_dir(ended.bench.dir.path()).expect("folder").map(|it| it.expect("entry"));
    let bytes: u64 = files
        .filter(|it| is_log(&it.file_name().to_string_lossy()))
        .map(|it| it.metadata().expect("metadata").len())
        .sum();
    assert!(bytes <= cap && bytes > cap * 3 / 4, "{bytes}");
}

#[test]
fn a_hundred_megabytes_of_log_cost_disk_and_no_memory() {
    let text = "head -c 100000000 /dev/zero | tr '\\0' x | fold -w 120; echo; grep VmHWM /proc/$PPID/status";
    let ended = running(text).finish();
    let last = ended.output().pop().expect("a line");
    let peak_kb: u64 = last.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    // The dump of `tr` is one line for each 120 characters, and the binary itself is counted too.
    assert!(peak_kb < 64 * 1024, "{last}");
    let bytes = fs::metadata(ended.bench.dir.log()).expect("log").len();
    assert!(bytes > 100_000_000, "{bytes}");
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let ended = running("printf 'a\\000b\\377c\\n'").finish();
    let line = log(&ended.bench.dir).into_iter().find(|it| it.kind == Kind::Output).expect("a line");
    assert_eq!(line.bytes, b"a\0b\xffc");
}
