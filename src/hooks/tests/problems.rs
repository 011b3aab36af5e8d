//! What is refused or warned about, and where it is reported.

use std::time::Instant;

use nix::unistd::geteuid;

use super::{Sandbox, environment, finds, found, hook, is_of_the_file, loads, working};
use crate::hooks::{
    Severity, load,
    problem::{render, to_json},
    state_folder,
};

#[test]
fn six_different_mistakes_are_six_problems() {
    let yaml = "\
server:
  workers: many
  listn: 127.0.0.1:9000
hooks:
  website:
    github: acme/website
    secret: {env: NOT_SET}
    on: {push: 'a['}
    deploy: {path: srv/website}
    timeout: soon
";
    let expect = ["bad-number@2:12", "unknown-key@3:3", "unset-variable@7:13", "bad-glob@8:16", "relative-path@9:20"];
    finds(yaml, &[&expect[..], &["bad-duration@10:14"]].concat());
}

#[test]
fn one_mistake_hides_no_other() {
    let yaml = "\
sources:
  acme: {forge: gitea, secret: ''}
hooks:
  one: {github: a/b, secret: {env: NOT_SET}, deploy: {path: /srv/x}}
  two: {github: a/b, gitlab: a/b, secret: {env: S, file: y}, deploy: {path: /srv/x/y}}
";
    // Columns on lines that tabs indent are those of two spaces each.
    let tabs = "hooks:\n\tone:\n\t\tgithub: a/b\n\t\tsecret: {env: NOT_SET}\n\t\trun: x\n";
    finds(tabs, &["tab@2:1", "unset-variable@4:13"]);
    finds(&working("").replace("    activate", "\tactivate"), &["tab@5:1"]);
    let two = "hooks:\n  one: {github: a/b, secret: {env: ACME_SECRET}, deploy: {path: /srv/x, lfs: maybe, remote: ../x}}\n  \
               two: {github: a/b, secret: {env: ACME_SECRET}, deploy: {path: /srv/x}}\n";
    let clash = found(two);
    assert!(clash.contains(&"shared-path@3:65".to_owned()), "{clash:?}");
    finds(&hook("deploy: {strategy: releases}"), &["missing-key@4:5"]);
    let expect = ["unknown-word@2:17", "empty-secret@2:32", "unset-variable@4:30", "no-identity@5:3"];
    finds(yaml, &[&expect[..], &["no-secret@5:43", "shared-path@5:77"]].concat());
}

#[test]
fn a_problem_is_reported_at_its_line_and_column() {
    for (yaml, expect) in [
        (working("tiemout: 5m"), "unknown-key@4:5"),
        (working("path: /srv/x"), "unknown-key@4:5"),
        (working("timeout: [5m]"), "wrong-type@4:14"),
        (working("env: x"), "wrong-type@4:10"),
        (working("env: {A: [x]}"), "wrong-type@4:14"),
        (working("timeout:"), "no-value@4:5"),
        (working("run: [~]"), "no-value@4:11"),
        (working("timeout: 5m\ntimeout: 6m"), "duplicate-key@5:5"),
        (working("\ttimeout: 5m"), "tab@4:5"),
        (working("timeout: \"5m"), "syntax@4:14"),
        (working("enabled: yes"), "wrong-type@4:14"),
        ("hooks: {}\n".into(), "no-hooks@1:8"),
        ("version: 1\n".into(), "missing-key@1:1"),
        ("- a\n".into(), "wrong-type@1:1"),
        (format!("version: 2\n{}", working("")), "unknown-version@1:10"),
        (format!("hoks: {{}}\n{}", working("")), "unknown-key@1:1"),
    ] {
        finds(&yaml, &[expect]);
    }
}

#[test]
fn a_misspelt_key_is_one_mistake_though_what_it_should_be_is_missing() {
    let yaml = "hooks:\n  website:\n    gitub: acme/website\n    secrt: {env: WEBSITE_SECRET}\n    rum: x\n";
    finds(yaml, &["unknown-key@3:5", "unknown-key@4:5", "unknown-key@5:5"]);
    finds("hoks:\n  website: {github: a/b}\n", &["unknown-key@1:1"]);
    let yaml = "hooks:\n  website:\n    gitlab: acme/website\n    secrt: {env: WEBSITE_SECRET}\n    run: x\n";
    finds(yaml, &["unknown-key@4:5"]);
    // `secrets` is a key of its own, and no misspelt `secret`.
    let yaml = "hooks:\n  website:\n    github: acme/website\n    secrets: {T: {env: API_TOKEN}}\n    run: x\n";
    finds(yaml, &["missing-key@2:3"]);
}

#[test]
fn a_repeated_hook_is_reported_and_both_are_checked() {
    let yaml = format!("{}  website:\n    github: acme\n    run: x\n    secret: {{env: EMPTY}}\n", working(""));
    finds(&yaml, &["duplicate-key@6:3", "bad-repo@7:13", "empty-secret@9:13"]);
}

#[test]
fn a_secret_that_cannot_be_had_is_an_error() {
    for (secret, expect) in [
        ("{env: NOT_SET}", "unset-variable@4:18"),
        ("{env: EMPTY}", "empty-secret@4:18"),
        ("{file: blank}", "empty-secret@4:18"),
        ("{file: missing}", "unreadable-secret@4:18"),
        ("{file: /dev/zero}", "unreadable-secret@4:18"),
        ("{file: .}", "unreadable-secret@4:18"),
        ("{credential: hook}", "no-credentials@4:18"),
        ("{credential: ../hook}", "bad-name@4:31"),
        ("\"\"", "empty-secret@4:18"),
        ("[]", "no-secret@4:18"),
        ("{}", "no-secret@4:18"),
        ("", "no-secret@4:16"),
        ("{env: A, file: b}", "no-secret@4:18"),
        ("{evn: A}", "unknown-key@4:19"),
    ] {
        let yaml = working(&format!("secrets: {{T: {secret}}}"));
        finds(&yaml, &[expect]);
    }
}

#[test]
fn a_sender_must_be_able_to_prove_itself() {
    let gitlab = |lines: &str| format!("hooks:\n  w:\n    gitlab: a/b/c\n    run: x\n{lines}");
    for (yaml, expect) in [
        ("hooks:\n  w:\n    github: a/b\n    run: x\n".into(), "missing-key@2:3"),
        (gitlab(""), "missing-key@2:3"),
        (gitlab("    secret: []\n"), "empty-secret@5:13"),
        (gitlab("    signing_token: {env: ACME_SECRET}\n"), "bad-signing-token@5:20"),
        (gitlab("    signing_token: {env: SIGNING_TOKEN}\n    accept_token_too: true\n"), "useless-key@6:23"),
        (working("signing_token: {env: SIGNING_TOKEN}"), "useless-key@4:5"),
        (working("gitlab: a/b"), "no-identity@2:3"),
        ("hooks:\n  w: {run: x}\n".into(), "no-identity@2:3"),
        (working("repo: a/b"), "useless-key@4:5"),
        ("hooks: {w: {source: acme, repo: a/b, run: x}}\n".into(), "unknown-source@1:21"),
        ("sources: {Acme: {forge: github, secret: {env: ACME_SECRET}}}\nhooks: {w: {source: Acme, repo: a/b, run: x}}\n".into(), "bad-name@1:11"),
    ] {
        finds(&yaml, &[expect]);
    }
}

#[test]
fn a_shared_source_keeps_what_belongs_to_it() {
    let source = "sources:\n  acme: {forge: github, secret: {env: ACME_SECRET}}\n";
    let hook = |name: &str, more: &str| {
        format!("{source}hooks:\n  {name}:\n    source: acme\n    repo: a/b\n    run: x\n{more}")
    };
    loads(&hook("shop", ""));
    finds(&hook("shop", "    secret: {env: ACME_SECRET}\n"), &["useless-key@8:5"]);
    finds(&hook("shop", "    allow_from: 10.0.0.1\n"), &["useless-key@8:5"]);
    finds(&hook("shop", "defaults: {allow_from: 10.0.0.1}\n"), &["useless-key@8:12"]);
    finds(&hook("shop", "").replace("    repo: a/b\n", ""), &["missing-key@4:3"]);
    let own = "  acme:\n    github: a/b\n    secret: {env: ACME_SECRET}\n    run: x\n";
    finds(&hook("shop", own), &["name-taken@8:3"]);
}

#[test]
fn how_releases_are_kept_and_probed_is_checked() {
    for (lines, expect) in [
        ("deploy: {strategy: releases}", "missing-key@4:5"),
        ("deploy: {strategy: releases, path: /srv/x, dirty: fail}", "useless-key@4:48"),
        ("deploy: {path: /srv/x, keep: 7}", "useless-key@4:28"),
        ("deploy: {keep_failed: 0}", "useless-key@4:14"),
        ("deploy: {shared: [.env]}", "useless-key@4:14"),
        ("deploy: {rollback: off}", "useless-key@4:14"),
        ("deploy: {keep: many}", "bad-number@4:20"),
        ("deploy: {shared: [{path: ../x}]}", "bad-path@4:30"),
        ("deploy: {strategy: releases, path: /srv/x, shared: [a, a/b]}", "shared-twice@4:60"),
        ("deploy: {strategy: releases, path: /srv/x, shared: [REVISION]}", "shared-revision@4:57"),
        ("health: {http: nowhere}", "bad-url@4:20"),
        ("health: {}", "bad-probe@4:13"),
        ("health: {tcp: '127.0.0.1:80', attempts: 2, stable: 3}", "bad-probe@4:13"),
    ] {
        finds(&working(lines), &[expect]);
    }
    loads(&working(
        "deploy: {strategy: releases, path: /srv/x, keep: 3, keep_failed: 0, rollback: off, shared: [storage, {path: \
         .env, required: true, seed: .env.example, mode: '0640'}]}\nhealth: [{http: 'http://127.0.0.1:1/up', expect: \
         200, body: ok, attempts: 3, stable: 2}, {tcp: 'localhost:80'}, {command: ./smoke}]",
    ));
    // Whoever writes down what holds anyway is right.
    loads(&working("deploy: {keep: 5, keep_failed: 1, rollback: auto, shared: []}\nhealth: []"));
}

#[test]
fn what_a_later_version_brings_is_refused_and_its_default_passes() {
    for (lines, expect) in [
        ("report: {github: {token: {env: API_TOKEN}}}", "not-supported@4:5"),
        ("notify: {slack: '#deploys'}", "not-supported@4:14"),
        ("on: {push: main, schedule: daily}", "not-supported@4:22"),
        // A bad value is reported as that.
        ("deploy: {depth: many}", "bad-number@4:21"),
    ] {
        finds(&working(lines), &[expect]);
    }
    finds(&format!("slack: {{token: {{env: API_TOKEN}}}}\n{}", working("")), &["not-supported@1:1"]);
    finds(&format!("server: {{admin: 0.0.0.0:9001}}\n{}", working("")), &["not-served@1:17"]);
    loads(&format!("server: {{admin: 0.0.0.0:9001}}\n{}", working("")));
    for admin in ["127.0.0.1:9001", "off"] {
        loads(&format!("server: {{admin: '{admin}'}}\n{}", working("")));
    }
    loads(&working("report: {}"));
}

#[test]
fn words_and_numbers_are_checked() {
    for (lines, expect) in [
        ("on: {push: refs/heads/main}", "odd-glob@4:16"),
        ("on: {push: [main, 'main, develop']}", "bad-glob@4:23"),
        ("on: {push: [main, '!main']}", "bad-glob@4:17"),
        ("on: {tag: 'v[0-9]+'}", "odd-glob@4:15"),
        ("on: {push: {branches: [main]}}", "wrong-type@4:16"),
        ("paths: [web, 'a//b']", "bad-glob@4:18"),
        ("branch: main", "unknown-key@4:5"),
        ("on: {branch: main}", "unknown-key@4:10"),
        ("notify: ops@example.org", "wrong-type@4:13"),
        ("on: {push: []}", "empty-list@4:16"),
        ("paths: /web/**", "bad-glob@4:12"),
        ("paths: 'a['", "bad-glob@4:12"),
        ("skip_markers: ['']", "empty-value@4:20"),
        ("paths: web/**\ndeploy: {strategy: none}", "useless-key@4:5"),
        ("on: {}", "no-event@4:9"),
        ("retry: {on: [tempfial]}", "unknown-word@4:18"),
        ("retry: {max: -1}", "bad-number@4:18"),
        ("timeout: 0s", "bad-duration@4:14"),
        ("lane: A", "bad-name@4:11"),
        ("url: ftp://x", "bad-url@4:10"),
        ("allow_from: example.org", "bad-address@4:17"),
        ("env: {A-B: x}", "bad-name@4:11"),
        ("env: {DEPLOY_SHA: x}", "reserved-name@4:11"),
        ("env: {A: \"\\0\"}", "bad-text@4:14"),
        ("env: {T: x}\nsecrets: {T: {env: API_TOKEN}}", "name-twice@5:5"),
        ("run: [{name: x}]", "missing-key@4:11"),
        ("run: {run: x, shell: []}", "empty-list@4:26"),
        ("run: ''", "empty-value@4:10"),
        ("notify: {on: all}", "bad-notification@4:13"),
        ("notify: {email: ops@example.org}", "no-smtp@4:14"),
        ("notify: {slack: {env: API_TOKEN}}", "bad-url@4:21"),
    ] {
        finds(&working(lines), &[expect]);
    }
    let smtp = "smtp: {host: localhost, from: a@example.org}\n";
    finds(&format!("{smtp}{}", working("notify: {email: ops}")), &["bad-address@5:21"]);
    finds(&working(&format!("run: {}", "x".repeat(128 << 10))), &["too-long@4:10"]);
    finds("hooks:\n  Website:\n    github: a/b\n    secret: {env: ACME_SECRET}\n    run: x\n", &["bad-name@2:3"]);
    let wider = format!(
        "server: {{allow_from: 10.0.0.0/8, trusted_proxies: ::1}}\n{}",
        working("allow_from: [10.1.2.3, 192.0.2.1]")
    );
    finds(&wider, &["not-narrower@5:17"]);
}

#[test]
fn what_people_write_elsewhere_is_answered_with_how_it_is_written_here() {
    let help = |yaml: &str| {
        let problems = match Sandbox::with(yaml).load() {
            Ok(loaded) => loaded.warnings,
            Err(refused) => refused.problems,
        };
        problems.into_iter().find(is_of_the_file).and_then(|it| it.help).unwrap_or_default()
    };
    for (lines, expect) in [
        ("on: {push: {branches: [main]}}", "push: [main"),
        ("on: {push: *}", "quotes"),
        ("on:\n  push: *", "quotes"),
        ("on: {push: [*, main]}", "quotes"),
        ("on: {push: '^main$'}", "write `main`"),
        ("branch: main", "`on: {push: main}`"),
        ("script: ./deploy.sh", "`run: ./deploy.sh`"),
        ("notify: ops@example.org", "write `{email: ops@example.org}`"),
        ("notify: [a@b.c, d@e.f]", "write `{email: a@b.c}`"),
        ("allow_from: '10.0.0.1, 10.0.0.2'", "`[10.0.0.1, 10.0.0.2]`"),
    ] {
        let said = help(&working(lines));
        assert!(said.contains(expect), "{lines}: {said}");
    }
    let server = |line: &str| help(&format!("server: {{{line}, trusted_proxies: [127.0.0.1]}}\n{}", working("")));
    assert!(server("public_url: 'https://x.example.org/hooks'").contains("write `https://x.example.org`,"));
    assert_eq!(server("public_url: 'https://x.example.org/hooks/site'"), "");
    // Many repositories are called so, but no owner.
    loads(&working("").replace("acme/website", "acme/-website"));
    finds(&working("").replace("acme/website", "-acme/website"), &["bad-repo@3:13"]);
    // Its address may be a secret.
    let secret = working("notify: https://hooks.slack.com/services/T0/B0/x");
    assert!(!Sandbox::with(&secret).load().expect_err("refused").to_string().contains("T0/B0"));
    finds(&hook("script: ./deploy.sh"), &["unknown-key@4:5"]);
}

#[test]
fn a_user_must_exist_and_be_within_reach() {
    finds(&working("user: no-such-user"), &["unknown-user@4:11"]);
    let daemon = if geteuid().is_root() { vec![] } else { vec!["user-needs-root@4:11"] };
    finds(&working("user: daemon"), &daemon);
}

#[test]
fn the_server_and_the_mail_account_are_checked() {
    for (line, expect) in [
        ("server: {listen: ':9000'}", vec!["bad-address@1:18"]),
        ("server: {public_url: example.org}", vec!["bad-url@1:22"]),
        ("server: {max_body: 26}", vec!["bad-size@1:20"]),
        ("server: {max_body: 4GiB}", vec!["bad-size@1:20"]),
        ("server: {socket_group: no-such-group}", vec!["unknown-group@1:24"]),
        ("server: {trusted_proxies: 10.0.0.1/8}", vec!["bad-address@1:27"]),
        ("server: {trusted_proxies: []}", vec!["empty-list@1:27"]),
        ("server: {trusted_proxies: ['unix:', 10.0.0.1/8]}", vec!["bad-address@1:37"]),
        ("server: {trusted_proxies: ['unix:', 10.0.0.0/8]}", vec![]),
        ("server: {listen: []}", vec!["empty-list@1:18"]),
        ("server: {listen: [127.0.0.1:9000, systemd]}", vec!["bad-address@1:35"]),
        ("server: {listen: [127.0.0.1:9000, localhost:80]}", vec!["bad-address@1:35"]),
        ("server: {listen: ['[::1]:9000', '[::1]:9000']}", vec!["bad-address@1:33"]),
        ("server: {listen: ['[::1]:9000', 0.0.0.0:80]}", vec![]),
        ("server: {max_connections: 10}", vec!["wrong-type@1:27"]),
        ("server: {max_connections: {all: 0}}", vec!["bad-number@1:33"]),
        ("server: {max_connections: {al: 10}}", vec!["unknown-key@1:28"]),
        ("server: {max_connections: {all: 10, address: 11}}", vec!["bad-number@1:46"]),
        ("server: {max_connections: {all: 10}}", vec![]),
        ("server: {workers: 0}", vec!["bad-number@1:19"]),
        ("smtp: {host: h}", vec!["missing-key@1:1"]),
        ("smtp: {host: 'h:25', from: a@b.c}", vec!["bad-address@1:14"]),
        ("smtp: {host: h, from: nobody}", vec!["bad-address@1:23"]),
        ("smtp: {host: h, from: a@b.c, username: u}", vec!["missing-key@1:1"]),
        ("smtp: {host: h, from: a@b.c, tls: none}", vec!["smtp-in-clear@1:30"]),
        ("smtp: {host: localhost, from: a@b.c, tls: none}", vec![]),
        ("defaults: {secret: {env: ACME_SECRET}}", vec!["identity-key@1:12"]),
        ("defaults: {timeout: soon}", vec!["bad-duration@1:21"]),
    ] {
        finds(&format!("{line}\n{}", working("timeout: 1m")), &expect);
    }
}

#[test]
fn a_proxy_that_must_be_there_and_is_not_named_is_a_warning() {
    let (url, allowed) = ("public_url: https://deploy.example.org", "allow_from: 192.0.2.0/24");
    for (server, expect) in [
        (url.to_owned(), vec!["no-proxies@1:10"]),
        (allowed.to_owned(), vec!["no-proxies@1:10"]),
        (format!("{url}, listen: ['127.0.0.1:80', '[::1]:80']"), vec!["no-proxies@1:50"]),
        (format!("{url}, listen: ['127.0.0.1:80', '0.0.0.0:81']"), vec![]),
        (format!("{url}, listen: systemd"), vec![]),
        (format!("{url}, trusted_proxies: 127.0.0.1"), vec![]),
        (format!("{allowed}, trusted_proxies: 'unix:'"), vec![]),
        ("public_url: 'http://127.0.0.1:9000'".to_owned(), vec![]),
        ("listen: '127.0.0.1:9000'".to_owned(), vec![]),
    ] {
        finds(&format!("server: {{{server}}}\n{}", working("timeout: 1m")), &expect);
    }
    finds(&working("allow_from: 192.0.2.0/24"), &["no-proxies@1:1"]);
}

#[test]
fn a_plain_secret_is_a_warning_and_never_shown() {
    let place = Sandbox::with(&working("secrets: {T: hunter2-hunter2}"));
    place.protect(0o640);
    let loaded = place.load().expect("only warnings");
    let codes: Vec<_> = loaded.warnings.iter().map(|it| it.code).collect();
    assert_eq!(codes, ["plain-secret", "readable-secret"]);
    assert!(loaded.warnings.iter().all(|it| it.severity == Severity::Warning));
    for shown in [render(&loaded.warnings, &loaded.text, false), to_json(&loaded.warnings), format!("{loaded:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    finds(&working("secrets: {T: hunter2-hunter2}"), &["plain-secret@4:18"]);
    finds(&working("secrets: {T: {env: SHORT}}"), &["short-secret@4:18"]);
}

#[test]
fn a_secret_beside_a_mistake_is_never_shown() {
    for yaml in [
        working("secrets: {T: hunter2, N: {}}"),
        working("").replace("secret: {env: WEBSITE_SECRET}", "{secret: hunter2"),
        working("").replace("secret: {env: WEBSITE_SECRET}", "secrt: hunter2"),
        working("deploy: {remote: 'https://hunter2@host/x'}"),
        working("secret: hunter2"),
        working("notify: {email: a@b.c, slack: hunter2}"),
    ] {
        let refused = Sandbox::with(&yaml).load().expect_err("a mistake");
        let shown = format!("{}{}", render(&refused.problems, &refused.text, false), to_json(&refused.problems));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_mistake_in_defaults_is_reported_once_however_many_hooks_share_it() {
    let hooks: String = (0..50)
        .map(|it| format!("  h{it}:\n    github: a/h{it}\n    secret: {{env: ACME_SECRET}}\n    run: x\n"))
        .collect();
    finds(&format!("defaults: {{timeout: soon}}\nhooks:\n{hooks}"), &["bad-duration@1:21"]);
}

#[test]
fn ten_thousand_hooks_are_checked() {
    let begin = Instant::now();
    let hooks: String = (0..10_000)
        .map(|it| {
            let name = format!("  h{it}:\n    github: acme/h{it}\n    secret: {{env: ACME_SECRET}}\n");
            format!("{name}    deploy: {{path: /srv/sites/h{it}}}\n    run: [./build, {{name: x, run: ./test}}]\n")
        })
        .collect();
    let yaml = format!("defaults: {{env: {{A: 1}}, on: {{push: main}}}}\nhooks:\n{hooks}");
    assert_eq!(loads(&yaml).hooks.hooks.len(), 10_000);
    println!("checked in {:?}", begin.elapsed());
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_refused() {
    let place = Sandbox::with("");
    std::fs::write(place.file(), b"hooks:\n  a: \xff\n").expect("a file");
    let refused = place.load().expect_err("not UTF-8");
    assert_eq!((refused.problems[0].code, refused.problems[0].line), ("not-utf8", 2));
    let missing = load(&place.folder.path().join("other.yaml"), &environment()).expect_err("not there");
    assert_eq!(missing.problems[0].code, "unreadable-file");
}

#[test]
fn the_state_folder_is_found_whatever_else_is_wrong() {
    for (yaml, expect) in [
        ("server: {state: /var/lib/x}\nhooks: {w: {secret: {env: NOT_SET}}}\n", "/var/lib/x"),
        ("server:\n  state: /var/lib/x\nhooks:\n\tbroken\n", "/var/lib/x"),
    ] {
        assert_eq!(state_folder(&Sandbox::with(yaml).file(), &environment()).expect("a folder").to_str(), Some(expect));
    }
    let place = Sandbox::with("hooks: {}\n");
    let folder = place.folder.path();
    assert_eq!(state_folder(&place.file(), &environment()).expect("a folder"), folder.join(".landfall"));
    let unit = environment().with("STATE_DIRECTORY", "/var/lib/landfall:/other");
    assert_eq!(state_folder(&place.file(), &unit).expect("a folder").to_str(), Some("/var/lib/landfall"));
    assert_eq!(found("server: {state: ''}\nhooks: {}\n"), ["empty-value@1:17", "no-hooks@2:8"]);
}

#[test]
fn a_pipe_in_the_files_place_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("hooks.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let refused = load(&pipe, &environment()).expect_err("refused");
    assert!(refused.to_string().contains("it is not a plain file"), "{refused}");
}

#[test]
fn as_root_a_file_that_others_can_change_is_told_of_with_the_command_that_mends_it() {
    if !geteuid().is_root() {
        return;
    }
    let place = Sandbox::with(&working(""));
    let told = || {
        let warnings = place.warnings();
        let found = warnings.iter().find(|it| it.code == "changed-by-others");
        found.and_then(|it| it.help.clone()).unwrap_or_default()
    };
    assert_eq!(told(), "");
    place.protect(0o660);
    assert!(told().contains("others than root may write to it: `chmod go-w "), "{}", told());
    place.protect(0o600);
    std::os::unix::fs::chown(place.file(), Some(65534), None).expect("given away");
    assert!(told().contains("belongs to `nobody`: `chown root "), "{}", told());
    std::os::unix::fs::chown(place.file(), Some(0), None).expect("taken back");
    std::os::unix::fs::chown(place.folder.path(), Some(65534), None).expect("given away");
    assert!(told().contains("belongs to `nobody`"), "{}", told());
}

#[test]
fn as_root_a_secret_that_another_user_keeps_back_is_told_of_and_keeps_no_other_hook_from_its_own() {
    if !geteuid().is_root() {
        return;
    }
    let place = Sandbox::with(&working("secrets: {KEY: {file: home/key}}"));
    let home = place.folder.path().join("home");
    std::fs::create_dir(&home).expect("a folder");
    std::os::unix::fs::symlink("/etc/shadow", home.join("key")).expect("a link");
    let codes = |place: &Sandbox| match place.load() {
        Ok(loaded) => loaded.warnings.iter().map(|it| (it.code, it.severity)).collect::<Vec<_>>(),
        Err(refused) => refused.problems.iter().map(|it| (it.code, it.severity)).collect(),
    };
    std::fs::set_permissions(place.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("a mode");
    assert_eq!(codes(&place), [], "root's own link is followed");
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).expect("given away");
    assert_eq!(codes(&place), [("unreadable-secret", Severity::Warning)]);
}
