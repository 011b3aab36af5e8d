//! What `deploy` may say, and what it comes to.

use super::{Sandbox, finds, found, hook, loads, working};
use crate::{
    hooks::Refused,
    model::{
        deploy::{Credential, Depth, Git, RemoteProof, UnknownFilters},
        secret::SecretRef,
    },
};

/// What is fetched by a hook with this `deploy`.
fn git(place: &Sandbox) -> Git {
    let hook = place.load().expect("a good file").hooks.hooks.into_values().next().expect("a hook");
    hook.deploy.strategy.git().expect("git").clone()
}

fn git_of(deploy: &str) -> Git {
    git(&Sandbox::with(&working(&format!("deploy: {deploy}"))))
}

/// The message and the help of the only problem.
fn advice(yaml: &str) -> (String, String) {
    let problems = match Sandbox::with(yaml).load() {
        Ok(loaded) => loaded.warnings,
        Err(Refused { problems, .. }) => problems,
    };
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    (problem.message.clone(), problem.help.clone().unwrap_or_default())
}

#[test]
fn two_hooks_in_different_lanes_never_share_a_folder() {
    let two = |first: &str, second: &str, more: &str| {
        let hook = |name: &str, path: &str, more: &str| {
            format!(
                "  {name}:\n    github: a/b\n    secret: {{env: ACME_SECRET}}\n    deploy: {{path: {path}}}\n{more}"
            )
        };
        format!("hooks:\n{}{}", hook("a", first, ""), hook("b", second, more))
    };
    finds(&two("/srv/a", "/srv/a", ""), &["shared-path@9:20"]);
    finds(&two("/srv/a", "/srv/./a/", ""), &["shared-path@9:20"]);
    finds(&two("/srv/a", "/srv/a/b", ""), &["shared-path@9:20"]);
    finds(&two("/srv/a/b", "/srv/a", ""), &["shared-path@5:20"]);
    loads(&two("/srv/a", "/srv/ab", ""));
    let folder = tempfile::tempdir().expect("a folder");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::create_dir(&real).expect("made");
    std::os::unix::fs::symlink("real", &link).expect("a link");
    let path = |it: &std::path::Path| it.to_str().expect("plain").to_owned();
    finds(&two(&path(&real), &path(&link.join("inner")), ""), &["shared-path@9:20"]);
    loads(&two("/srv/a", "/srv/a", "    lane: a\n"));
}

#[test]
fn a_deploy_that_cannot_work_is_refused() {
    for (deploy, expect) in [
        ("{path: srv}", "relative-path@4:20"),
        ("{path: ~/x}", "relative-path@4:20"),
        ("{path: /}", "bad-path@4:20"),
        ("{path: /srv/../etc}", "bad-path@4:20"),
        ("{strategy: in-place}", "missing-key@4:5"),
        ("{strategy: inplace}", "unknown-word@4:24"),
        ("{strategy: checkout, path: /srv/x}", "useless-key@4:34"),
        ("{strategy: none, remote: /srv/x}", "useless-key@4:30"),
        ("{clean: untracked}", "useless-key@4:14"),
        ("{remote: 'ext::sh -c id'}", "bad-remote@4:22"),
        ("{remote: https://u:p@host/x}", "bad-remote@4:22"),
        ("{credentials: {ssh_key: secret}}", "bad-credentials@4:37"),
        ("{credentials: {ssh_key: missing}, remote: 'a@b:c'}", "missing-file@4:37"),
        ("{credentials: {token: {env: API_TOKEN}}, remote: 'a@b:c'}", "bad-credentials@4:35"),
        ("{credentials: {username: x}}", "bad-credentials@4:27"),
        ("{min_free: 12}", "bad-size@4:24"),
        ("{submodules: yes}", "unknown-word@4:26"),
        ("{lfs: fetch}", "unknown-word@4:19"),
        ("{depth: -1}", "bad-number@4:21"),
        ("{subdir: ../x}", "bad-path@4:22"),
        ("{subdir: /x}", "bad-path@4:22"),
        ("{path: /srv/x, subdir: web}", "useless-key@4:28"),
        ("{strategy: none, lfs: pull}", "useless-key@4:30"),
        ("{depth: all}", "bad-number@4:21"),
        ("{tags: true}", "useless-key@4:14"),
        ("{strategy: none, tags: true}", "useless-key@4:30"),
        ("{path: /srv/x, export_ignore: true}", "useless-key@4:28"),
        ("{strategy: none, export_ignore: false}", "useless-key@4:30"),
        ("{filters: warn}", "unknown-word@4:23"),
        ("{strategy: none, filters: ignore}", "useless-key@4:30"),
        ("{strategy: none, umask: '022'}", "useless-key@4:30"),
        ("{remote: 'https://host/a b'}", "bad-remote@4:22"),
        ("{remote: 'git://host/a'}", "bad-remote@4:22"),
    ] {
        finds(&working(&format!("deploy: {deploy}")), &[expect]);
    }
    finds(&hook("deploy: {strategy: none}"), &["nothing-to-do@2:3"]);
    finds(&hook("run: []"), &["nothing-to-do@2:3"]);
    finds(&format!("server: {{state: /srv}}\n{}", working("deploy: {path: /srv/x}")), &["state-path@5:20"]);
    let cleaned = working("deploy: {path: /srv, clean: untracked}");
    finds(&format!("server: {{state: /srv/x}}\n{cleaned}"), &["state-path@5:20"]);
}

#[test]
fn what_is_fetched_and_how_it_is_written_can_be_said() {
    let said = git_of("{depth: 7, export_ignore: true, filters: ignore, umask: '0027'}");
    assert!(said.export_ignore);
    assert!(matches!(said.depth, Depth::Commits(number) if number.get() == 7));
    assert_eq!((said.filters, said.umask), (UnknownFilters::Ignore, 0o027));
    assert_eq!(git_of("{depth: 0}").depth, Depth::All);
    assert_eq!(git_of("{depth: auto}").depth, Depth::Auto);
    assert!(!git_of("{path: /srv/x, tags: false}").tags);
    // Whoever writes down what holds anyway is right.
    loads(&working("deploy: {path: /srv/x, tags: true, export_ignore: false, filters: fail, umask: 022}"));
}

#[test]
fn a_umask_is_octal_with_or_without_quotes_and_nothing_else() {
    for umask in ["022", "'022'", "0022", "\"0022\""] {
        assert_eq!(git_of(&format!("{{umask: {umask}}}")).umask, 0o022, "{umask}");
    }
    assert_eq!(git_of("{umask: 777}").umask, 0o777);
    for umask in ["22", "0", "089", "1022", "00022", "0o22", "+22", "u=rwx"] {
        finds(&working(&format!("deploy: {{umask: {umask}}}")), &["bad-umask@4:21"]);
    }
    assert!(advice(&working("deploy: {umask: 22}")).1.contains("three octal digits"));
}

#[test]
fn a_remote_is_kept_as_it_was_written() {
    for remote in ["git+ssh://git@host/a", "HTTPS://git.example.org/a", "file://localhost/srv/a", "/srv/a"] {
        assert_eq!(git_of(&format!("{{remote: '{remote}'}}")).remote.as_str(), remote);
    }
}

#[test]
fn credentials_say_how_we_prove_ourselves_at_the_remote() {
    let token = git_of("{credentials: {token: {env: API_TOKEN}}}");
    let proof = RemoteProof::Token { username: "x-access-token".into(), token: SecretRef::Env("API_TOKEN".into()) };
    assert_eq!(token.credentials, [Credential { host: None, proof }]);
    let place =
        Sandbox::with(&working("deploy: {remote: 'git@host:a/b', credentials: {ssh_key: secret, known_hosts: blank}}"));
    let (key, known) = (place.folder.path().join("secret"), place.folder.path().join("blank"));
    let proof = RemoteProof::SshKey { key, known_hosts: Some(known) };
    assert_eq!(git(&place).credentials, [Credential { host: None, proof }]);
}

#[test]
fn a_list_of_credentials_serves_a_remote_and_its_submodules() {
    let list = "[{token: {env: API_TOKEN}}, {host: Git.Example.org, token: {env: ACME_SECRET}}, {host: git.example.org, \
                ssh_key: secret}]";
    let git = git_of(&format!("{{credentials: {list}}}"));
    let hosts: Vec<_> = git.credentials.iter().map(|it| it.host.as_deref()).collect();
    assert_eq!(hosts, [None, Some("git.example.org"), Some("git.example.org")]);
    assert_eq!(git.own_credential(), Some(&git.credentials[0]));
    assert_eq!(git_of("{credentials: []}").credentials, []);
    // One that is for a submodule alone.
    let git = git_of("{remote: /srv/a, credentials: {host: git.example.org, token: {env: API_TOKEN}}}");
    assert_eq!((git.credentials.len(), git.own_credential()), (1, None));
}

#[test]
fn a_credential_without_a_place_to_be_shown_at_is_refused() {
    for (deploy, expect) in [
        ("{credentials: [{ssh_key: secret}]}", "bad-credentials@4:38"),
        ("{remote: 'a@b:c', credentials: [{token: {env: API_TOKEN}}]}", "bad-credentials@4:53"),
        ("{remote: /srv/a, credentials: [{token: {env: API_TOKEN}}]}", "bad-credentials@4:52"),
        ("{credentials: {host: 'https://h', token: {env: API_TOKEN}}}", "bad-host@4:34"),
        ("{credentials: {host: 'h:22', token: {env: API_TOKEN}}}", "bad-host@4:34"),
        ("{credentials: x}", "wrong-type@4:27"),
        ("{credentials: [x]}", "wrong-type@4:28"),
        ("{credentials:}", "no-value@4:14"),
    ] {
        finds(&working(&format!("deploy: {deploy}")), &[expect]);
    }
    let help = |deploy: &str| advice(&working(&format!("deploy: {deploy}"))).1;
    assert!(help("{credentials: [{ssh_key: secret}]}").contains("`host: git.example.org`"));
    assert_eq!(help("{credentials: {ssh_key: secret}}"), "use a remote like `git@host:path`, or a `token`");
}

#[test]
fn two_credentials_are_never_for_the_same_protocol_and_host() {
    let list = |list: &str| working(&format!("deploy: {{credentials: [{list}]}}"));
    let token = "{token: {env: API_TOKEN}}";
    finds(&list(&format!("{token}, {token}")), &["credentials-twice@4:55"]);
    finds(&list(&format!("{token}, {{host: GitHub.com, token: {{env: API_TOKEN}}}}")), &["credentials-twice@4:55"]);
    let (message, _) = advice(&list(&format!("{token}, {token}")));
    assert!(message.contains("`hooks.website.deploy.credentials[0]` (line 4)"), "{message}");
    loads(&list(&format!("{token}, {{host: github.com, ssh_key: secret}}")));
}

#[test]
fn a_token_that_would_cross_the_network_in_the_clear_is_warned_about() {
    let deploy = |remote: &str, more: &str| {
        working(&format!("deploy: {{remote: '{remote}', credentials: {{token: {{env: API_TOKEN}}{more}}}}}"))
    };
    for (remote, more) in [("http://git.example.org/a", ""), ("http://Git.example.org/a", ", host: git.example.org")] {
        let warned = found(&deploy(remote, more));
        assert!(matches!(warned.as_slice(), [it] if it.starts_with("token-in-clear@4:")), "{warned:?}");
    }
    for (remote, more) in [
        ("https://git.example.org/a", ""),
        ("http://127.0.0.1:3000/a", ""),
        ("http://[::1]/a", ""),
        ("http://git.example.org/a", ", host: other.example.org"),
    ] {
        finds(&deploy(remote, more), &[]);
    }
}

#[test]
fn hooks_that_share_a_folder_agree_in_what_they_want_of_it() {
    let two = |one: &str, other: &str| {
        let hook = |name: &str, lines: &str| {
            format!("  {name}:\n    github: a/b\n    secret: {{env: ACME_SECRET}}\n    lane: x\n    deploy: {lines}\n")
        };
        format!("hooks:\n{}{}", hook("a", one), hook("b", other))
    };
    let plain = "{path: /srv/a}";
    for other in [
        "{path: /srv/a, strategy: releases}",
        "{path: /srv/a, remote: 'https://github.com/a/c'}",
        "{path: /srv/a, depth: 1}",
        "{path: /srv/a}\n    user: root",
    ] {
        let user_is_out_of_reach = other.contains("root") && !nix::unistd::geteuid().is_root();
        if !user_is_out_of_reach {
            finds(&two(plain, other), &["unlike-hooks@11:20"]);
        }
    }
    let (message, _) = advice(&two(plain, "{path: /srv/./a, strategy: releases, depth: 0}"));
    for part in
        ["hook `b` (line 11)", "hook `a` (line 6)", "strategy `releases` and `in-place`", "depth `0` and `auto`"]
    {
        assert!(message.contains(part), "{message}");
    }
    // The same repository by another way, and what may differ.
    loads(&two(plain, "{path: /srv/a, remote: 'git@github.com:a/b', dirty: fail}"));
    // What could not be read is one mistake, not two.
    finds(&two(plain, "{path: /srv/a, depth: deep}"), &["bad-number@11:35"]);
}
