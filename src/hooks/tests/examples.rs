//! What the documented examples mean.

use std::{path::PathBuf, time::Duration};

use super::{Sandbox, environment, is_of_the_file, loads, working};
use crate::{
    hooks::{Environment, Listen, SmtpTls, load},
    model::{
        deploy::{Clean, Depth, Dirty, Strategy, UnknownFilters},
        hook::{BranchFilter, Hook, QueuePolicy},
        letter::{Channel, Occasion},
        name::{HookName, SourceName},
        push::RepoName,
        secret::SecretRef,
        source::{Forge, Proof, SourcePath},
    },
};

const SMTP: &str = "smtp: {host: mail.example.org, port: 587, tls: starttls, username: deploys, password: {env: \
                    SMTP_PASSWORD}, from: \"Deploys <deploys@example.org>\"}\n";

const SHORTEST: &str = "\
hooks:
  website:
    github: acme/website
    secret: {env: WEBSITE_SECRET}
    on: {push: main}
    deploy: {path: /srv/website}
    run: ./deploy.sh
    notify: {email: ops@example.org}
";

fn only_hook(yaml: &str) -> Hook {
    let loaded = loads(yaml);
    let hook = loaded.hooks.hooks.values().next().expect("a hook");
    hook.as_ref().clone()
}

#[test]
fn the_shortest_useful_file_loads_with_every_default() {
    let hook = only_hook(&format!("{SHORTEST}{SMTP}"));
    let Strategy::InPlace { git, path, dirty, clean } = &hook.deploy.strategy else { panic!("{hook:?}") };
    assert_eq!(git.remote.as_str(), "https://github.com/acme/website.git");
    assert!(git.credentials.is_empty() && git.tags && !git.export_ignore);
    assert_eq!((git.depth, git.filters, git.umask), (Depth::Auto, UnknownFilters::Fail, 0o022));
    assert_eq!((path, *dirty, *clean), (&PathBuf::from("/srv/website"), Dirty::Save, Clean::None));
    assert_eq!(hook.run[0].name, "./deploy.sh");
    assert_eq!(hook.run[0].shell, ["/bin/sh", "-e"]);
    assert_eq!((hook.timeout, hook.idle_timeout), (Duration::from_secs(1800), Duration::from_secs(600)));
    assert_eq!((hook.retry.max, hook.retry.backoff), (2, Duration::from_secs(10)));
    assert_eq!((hook.queue, hook.lane.as_str(), hook.enabled), (QueuePolicy::Latest, "website", true));
    assert_eq!(hook.notify[0].on, [Occasion::Failure, Occasion::Recovery]);
    assert_eq!(hook.environment, "production");
    assert_eq!(hook.deploy.min_free_bytes, 512 << 20);
}

#[test]
fn the_shortest_server_has_every_default() {
    let place = Sandbox::with(&working(""));
    let server = place.load().expect("a good file").hooks.server;
    assert_eq!((&server.listen, server.listen.default_url().as_str()), (&Listen::NotWritten, "http://127.0.0.1:9000"));
    assert_eq!((server.max_connections.all, server.max_connections.address), (1024, 64));
    assert_eq!(
        (server.public_url.as_str(), server.admin_url.as_str()),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001")
    );
    assert_eq!(server.state, place.folder.path().join(".landfall"));
    assert!(server.workers >= 2 && server.allow_from.is_empty() && server.trusted_proxies.is_empty());
    assert_eq!((server.max_body_bytes, server.max_log_bytes), (26 << 20, 256 << 20));
    assert_eq!((server.rate_limit, server.keep_runs), (60, 10_000));
    assert_eq!(server.keep_logs, Duration::from_secs(90 * 86_400));
}

#[test]
fn a_shared_source_starts_several_hooks_and_rotates_its_secret() {
    let loaded = loads(
        "sources:\n  acme:\n    forge: github\n    secret: [{env: ACME_SECRET}, {env: ACME_SECRET_OLD}]\nhooks:\n  \
         shop: {source: acme, repo: acme/shop, on: {push: main}, run: ./deploy}\n  blog: {source: acme, repo: \
         acme/blog, run: ./deploy}\n  cache: {source: acme, repo: Acme/Shop, run: ./purge}\n",
    );
    let acme = SourceName::parse("acme").expect("a name");
    let Proof::GitHub { secrets } = &loaded.hooks.sources[&SourcePath::Shared(acme.clone())].proof else { panic!() };
    let origins: Vec<_> = secrets.iter().map(|it| it.origin.clone()).collect();
    assert_eq!(origins, ["ACME_SECRET", "ACME_SECRET_OLD"].map(|it| SecretRef::Env(it.into())));
    let of_repo = |repo: &str| {
        let of_repo = loaded.hooks.hooks_of(&acme, &RepoName::parse(repo).expect("a name"));
        of_repo.iter().map(|it| it.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of_repo("ACME/shop"), ["cache", "shop"]);
    assert_eq!(of_repo("acme/blog"), ["blog"]);
    assert!(of_repo("acme/other").is_empty());
    assert_eq!(loaded.hooks.sources.len(), 1);
}

#[test]
fn the_proof_of_a_gitlab_sender_follows_from_its_secrets() {
    let proof = |lines: &str| {
        let loaded = loads(&format!("hooks:\n  w:\n    gitlab: g/sub/name\n    run: x\n{lines}"));
        let source = loaded.hooks.sources.into_values().next().expect("a source");
        assert_eq!(source.forge(), Forge::GitLab);
        source.proof
    };
    let (secret, signing) = ("    secret: {env: GITLAB_SECRET}\n", "    signing_token: {env: SIGNING_TOKEN}\n");
    assert!(matches!(proof(secret), Proof::GitLabToken { tokens } if tokens.len() == 1));
    let Proof::GitLabSigned { signing_tokens, tokens } = proof(&format!("{signing}{secret}")) else { panic!() };
    assert_eq!((signing_tokens.len(), tokens.len()), (1, 0));
    let both = proof(&format!("{signing}{secret}    accept_token_too: true\n"));
    assert!(matches!(both, Proof::GitLabSigned { tokens, .. } if tokens.len() == 1));
}

#[test]
fn the_documented_notifications_load_but_for_the_channel() {
    let hook = only_hook(&format!(
        "{SMTP}{}",
        working(
            "notify:\n  - slack: {env: SLACK_WEBHOOK_URL}\n    on: [failure, recovery]\n  - email: [ops@example.org, \
             dev@example.org]\n    on: [failure, recovery, success]\n  - email: a@example.org\n    on: all"
        )
    ));
    assert_eq!(hook.notify[0].channel, Channel::Slack { webhook: SecretRef::Env("SLACK_WEBHOOK_URL".into()) });
    let Channel::Email { to } = &hook.notify[1].channel else { panic!() };
    assert_eq!(to, &["ops@example.org", "dev@example.org"]);
    assert_eq!(hook.notify[2].on, Occasion::ALL);
    let smtp = loads(&format!("{SMTP}{}", working(""))).hooks.smtp.expect("an account");
    assert_eq!((smtp.host.as_str(), smtp.port, smtp.tls), ("mail.example.org", 587, SmtpTls::Starttls));
    assert_eq!(smtp.password, Some(SecretRef::Env("SMTP_PASSWORD".into())));
}

#[test]
fn steps_are_a_string_or_a_list_of_strings_and_maps() {
    let hook = only_hook(&working(
        "run:\n  - |\n\n    # build it\n    make\n  - {name: test, run: make test, shell: bash -eu, timeout: 5m, env: \
         {PORT: 8080}, cwd: web}\nfinally: {run: rm -rf tmp, shell: [/bin/sh, -eu]}",
    ));
    assert_eq!(hook.run[0].name, "# build it");
    assert_eq!(hook.run[0].script, "\n# build it\nmake\n");
    let test = &hook.run[1];
    assert_eq!((test.name.as_str(), test.timeout), ("test", Some(Duration::from_secs(300))));
    assert_eq!(test.shell, ["bash", "-eu"]);
    assert_eq!(test.env["PORT"], "8080");
    assert_eq!(test.cwd, Some("web".into()));
    assert_eq!(hook.finally[0].shell, ["/bin/sh", "-eu"]);
}

#[test]
fn numbers_stand_for_their_text_where_text_is_wanted() {
    let hook = only_hook(&working("on: {push: 1.10, tag: [2, '!3']}\nenv: {PORT: 8080, ON: true, EMPTY: ''}"));
    let BranchFilter::Matching(patterns) = &hook.on.push else { panic!("{hook:?}") };
    assert_eq!(patterns.texts(), ["1.10"]);
    assert_eq!(hook.env.values().collect::<Vec<_>>(), ["", "true", "8080"]);
    assert!(matches!(only_hook(&working("on: {tag: v*}")).on.push, BranchFilter::Never));
    assert!(matches!(only_hook(&working("")).on.push, BranchFilter::DefaultBranch));
}

#[test]
fn a_key_of_the_hook_wins_over_defaults_as_a_whole() {
    let defaults = "defaults: {env: {A: 1, B: 1}, timeout: 5m, lane: all, notify: {slack: {env: SLACK_WEBHOOK_URL}}}\n";
    let hook = only_hook(&format!("{defaults}{}", working("env: {B: 2}")));
    assert_eq!(hook.env.into_iter().collect::<Vec<_>>(), [("B".to_owned(), "2".to_owned())]);
    assert_eq!((hook.timeout, hook.lane.as_str(), hook.notify.len()), (Duration::from_secs(300), "all", 1));
}

#[test]
fn anchors_and_merge_keys_share_settings() {
    let hook = only_hook(
        "defaults: {env: &env {A: 1, B: 1}}\nhooks:\n  w:\n    github: a/b\n    secret: {env: ACME_SECRET}\n    run: \
         x\n    env: {<<: *env, B: 2}\n",
    );
    assert_eq!(hook.env.into_values().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn a_deploy_without_git_runs_in_the_folder_of_the_file() {
    let place = Sandbox::with(&working("deploy: {strategy: none}"));
    let loaded = place.load().expect("a good file");
    let hook = loaded.hooks.hook(&HookName::parse("website").expect("a name")).expect("the hook");
    assert_eq!(hook.deploy.strategy, Strategy::None { folder: place.folder.path().to_owned() });
}

#[test]
fn a_secret_is_looked_up_again_when_it_is_needed() {
    let yaml = working("secrets: {A: {file: secret}, B: in plain text, C: {credential: c}}");
    let place = Sandbox::with(&yaml);
    let folder = place.folder.path();
    std::fs::write(folder.join("c"), "from systemd").expect("a credential");
    let environment = environment().with("CREDENTIALS_DIRECTORY", folder.to_str().expect("UTF-8"));
    let loaded = load(&place.file(), &environment).expect("a good file");
    let hook = loaded.hooks.hooks.values().next().expect("a hook");
    let value = |name: &str, environment: &Environment| {
        loaded.hooks.secret(&hook.secrets[name], environment).map(|it| it.expose().to_owned())
    };
    assert_eq!(value("A", &environment).expect("a secret"), "from a file");
    assert_eq!(value("B", &environment).expect("a secret"), "in plain text");
    assert_eq!(value("C", &environment).expect("a secret"), "from systemd");
    assert_eq!(hook.secrets["B"], SecretRef::Written("hooks.website.secrets.B".into()));
    std::fs::write(folder.join("secret"), "changed").expect("a secret");
    assert_eq!(value("A", &environment).expect("a secret"), "changed");
    assert!(value("C", &Environment::default()).is_err());
}

#[test]
fn the_hooks_yaml_of_the_project_loads_and_names_scripts_that_exist() {
    let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let names = [
        "WEBSITE_SECRET",
        "ACME_SECRET",
        "ACME_SECRET_OLD",
        "DOCS_READ_TOKEN",
        "DOCS_THEME_TOKEN",
        "DOCS_SEARCH_KEY",
        "SMTP_PASSWORD",
    ];
    let environment = names.iter().fold(environment(), |it, name| it.with(name, "correct horse battery"));
    let environment = environment.with("DOCS_SIGNING_TOKEN", "whsec_c2VjcmV0IGtleQ==");
    let loaded = load(&project.join("hooks.yaml"), &environment).unwrap_or_else(|err| panic!("{err}"));
    assert!(!loaded.warnings.iter().any(is_of_the_file), "{:?}", loaded.warnings);
    for hook in loaded.hooks.hooks.values() {
        for step in hook.run.iter().chain(&hook.on_failure) {
            assert!(project.join(&step.script).is_file(), "{}", step.script);
        }
    }
}
