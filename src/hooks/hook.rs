//! Reads one entry of `hooks`: whose pushes start it, and what it does.
//!
//! Invariant: a key of the hook itself wins over the same key of `defaults` as a whole; maps are not mixed.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use nix::unistd::geteuid;

use crate::{
    hooks::{
        deploy, health, keys, later, limits, notify, on, queue,
        read::{Check, Field, Section, shortened},
        server::Server,
        sources, steps, units,
        yaml::{Place, Value},
    },
    model::{
        hook::{Hook, Poll},
        limits::RunLimits,
        name::{HookName, SourceName},
        push::RepoName,
        source::{Forge, Source, SourcePath},
    },
    process::way::user_name,
};

/// What a hook needs to know of the rest of the file.
pub(super) struct Surroundings<'a, 't> {
    pub(super) server: &'a Server,
    /// The entries of `sources`, also those with mistakes.
    pub(super) shared: &'a HashMap<&'t str, Shared>,
    pub(super) defaults: Option<&'a Section<'t>>,
}

/// What a hook needs to know of the source it names.
pub(super) struct Shared {
    /// Its forge, if the entry could be read.
    pub(super) forge: Option<Forge>,
    /// Whether it has addresses of its own.
    pub(super) has_addresses: bool,
}

/// A hook as far as it could be read, with what the checks of the whole file want to know.
pub(super) struct Draft {
    pub(super) hook: Hook,
    /// Its own sender, if it has one; one that has a mistake is none.
    pub(super) source: Option<Source>,
    pub(super) name_place: Place,
    pub(super) path_place: Option<Place>,
    pub(super) email_place: Option<Place>,
    /// Whether how it deploys, and as whom, could be read.
    pub(super) is_landing_known: bool,
}

impl Draft {
    /// The folder it deploys into, if that is a fixed one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.hook.deploy.strategy.path()
    }
}

/// One entry of `hooks`.
pub(super) fn read<'t>(field: &Field<'t>, around: &Surroundings<'_, 't>, check: &mut Check) -> Option<Draft> {
    let name = HookName::parse(field.key);
    if name.is_none() {
        sources::bad_name(field, check);
    }
    let mut section = field.section(check, &[keys::IDENTITY, keys::SETTINGS].concat())?;
    add_defaults(&mut section, around.defaults);
    refuse_idle(&section, check);
    let identity = identity(&section, around, check);
    // The rest is checked whether or not the hook can be told apart from others.
    let (forge, repo) = match &identity {
        Some(Identity { forge, repo: Some(repo), .. }) => (*forge, repo.clone()),
        Some(Identity { forge, repo: None, .. }) => (*forge, stand_in().1),
        None => stand_in(),
    };
    let own_name = name.clone().or_else(|| HookName::parse("unnamed"))?;
    let found = settings(&section, own_name, forge, repo, around.server, check);
    let (shared, proof, allow_from) = match identity.map(|it| it.sender) {
        Some(Sender::Shared(source)) => (Some(source), None, Vec::new()),
        Some(Sender::Own) => {
            let allow_from = sources::allow_from(&section, &around.server.allow_from, check);
            (None, sources::proof(&section, forge, check), allow_from)
        }
        None => {
            sources::judge_secrets(&section, check);
            (None, None, Vec::new())
        }
    };
    // Whose sender has a mistake still has a folder that others may want: the file is refused in any case.
    let name = name?;
    let source = proof.map(|proof| Source { path: SourcePath::Hook(name.clone()), proof, allow_from });
    let hook = Hook { source: shared.unwrap_or_else(|| name.own_source()), ..found.hook };
    let Found { path_place, email_place, is_landing_known, .. } = found;
    Some(Draft { hook, source, name_place: field.key_place, path_place, email_place, is_landing_known })
}

/// `defaults` on its own, so that a mistake in it is found even where every hook says otherwise.
pub(super) fn read_defaults(section: &Section, server: &Server, check: &mut Check) {
    let known = [keys::IDENTITY, keys::SETTINGS].concat();
    section.refuse_unknown(check, &known);
    for field in section.fields.iter().filter(|it| keys::IDENTITY.contains(&it.key)) {
        let message = format!("`{}` says who a hook is, which cannot be shared", field.path);
        check.error(field.key_place, "identity-key", message, "write it at each hook; `sources` shares a sender");
    }
    sources::allow_from(section, &server.allow_from, check);
    if let Some(name) = HookName::parse("defaults") {
        let (forge, repo) = stand_in();
        settings(section, name, forge, repo, server, check);
    }
}

/// An identity for the time in which the real one is not known; a file that needs it is refused.
fn stand_in() -> (Forge, RepoName) {
    (Forge::GitHub, RepoName::parse("owner/name").expect("two plain components"))
}

fn add_defaults<'t>(section: &mut Section<'t>, defaults: Option<&Section<'t>>) {
    let Some(defaults) = defaults else { return };
    for field in &defaults.fields {
        if keys::SETTINGS.contains(&field.key) && section.get(field.key).is_none() {
            section.fields.push(field.clone());
        }
    }
}

/// A hook that would do nothing at all is a mistake.
fn refuse_idle(section: &Section, check: &mut Check) {
    let says = |key: &str| match section.get(key).map(|it| &it.node.value) {
        Some(Value::List(items)) => !items.is_empty(),
        Some(Value::Null | Value::Text(_) | Value::Map(_)) => true,
        None => false,
    };
    let deploys = section.get("deploy").is_some_and(|it| match &it.node.value {
        // Which of them have to have a path is said where that is missing.
        Value::Map(entries) => entries.iter().any(|it| {
            let has_path = |word: &String| word == "in-place" || word == "releases";
            it.key == "path" || it.key == "strategy" && matches!(&it.node.value, Value::Text(word) if has_path(word))
        }),
        Value::Null | Value::Text(_) | Value::List(_) => false,
    });
    let is_misspelt = section.misspells(&["run", "activate", "deploy"], &[keys::IDENTITY, keys::SETTINGS]);
    if !says("run") && !says("activate") && !deploys && !is_misspelt {
        let message = format!("`{}` does nothing", section.path);
        check.error(section.place, "nothing-to-do", message, "give it `deploy: {path: ...}`, `run` or `activate`");
    }
}

struct Identity {
    forge: Forge,
    /// `None` if it is malformed, which has been reported.
    repo: Option<RepoName>,
    sender: Sender,
}

enum Sender {
    Own,
    Shared(SourceName),
}

fn identity(section: &Section, around: &Surroundings, check: &mut Check) -> Option<Identity> {
    let ways: Vec<&Field> = ["github", "gitlab", "source"].into_iter().filter_map(|it| section.get(it)).collect();
    let [way] = ways.as_slice() else {
        let message = match ways.as_slice() {
            [] if section.misspells(&["github", "gitlab", "source"], &[keys::IDENTITY, keys::SETTINGS]) => return None,
            [] => format!("`{}` names no repository", section.path),
            _ => format!("`{}` names more than one sender", section.path),
        };
        let help = "write exactly one: `github: owner/name`, `gitlab: group/name`, or `source: NAME` with `repo`";
        check.error(section.place, "no-identity", message, help);
        return None;
    };
    let forge = match way.key {
        "github" => Forge::GitHub,
        "gitlab" => Forge::GitLab,
        _ => return shared_identity(section, way, around, check),
    };
    if let Some(field) = section.get("repo") {
        let message = format!("`{}` does nothing beside `{}`", field.path, way.key);
        check.error(field.key_place, "useless-key", message, "remove it; it goes with `source`");
    }
    Some(Identity { forge, repo: repo(way, forge, check), sender: Sender::Own })
}

fn shared_identity(section: &Section, way: &Field, around: &Surroundings, check: &mut Check) -> Option<Identity> {
    for key in ["secret", "signing_token", "accept_token_too"] {
        if let Some(field) = section.get(key) {
            let message = format!("`{}` does nothing here: the source proves the sender", field.path);
            check.error(field.key_place, "useless-key", message, "move it to the entry of `sources`");
        }
    }
    let source = way.text(check)?;
    let Some(shared) = around.shared.get(source) else {
        let known: Vec<&str> = around.shared.keys().copied().collect();
        let help = match keys::nearest(source, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add it under `sources`".to_owned(),
        };
        way.refuse(
            check,
            "unknown-source",
            format_args!("names source `{}`, which there is not", shortened(source)),
            help,
        );
        return None;
    };
    if let Some(field) = section.get("allow_from")
        && (!field.path.starts_with("defaults.") || !shared.has_addresses)
    {
        let message =
            format!("`{}` cannot hold for `{}`, whose pushes come through source `{source}`", field.path, section.path);
        check.error(field.key_place, "useless-key", message, format_args!("write `allow_from` at `sources.{source}`"));
    }
    let Some(field) = section.get("repo") else {
        section.miss(check, "`repo`", "whose pushes start it: `repo: owner/name`");
        return None;
    };
    // Without a forge the source is wrong, and has been reported.
    let forge = shared.forge?;
    Some(Identity { forge, repo: repo(field, forge, check), sender: Sender::Shared(SourceName::parse(source)?) })
}

fn repo(field: &Field, forge: Forge, check: &mut Check) -> Option<RepoName> {
    field.parsed(check, "bad-repo", |text| {
        let is_plain = !text.ends_with(".git") && (forge == Forge::GitLab || text.matches('/').count() == 1);
        let help = match forge {
            Forge::GitHub => "write `owner/name`, as in the address of its page",
            Forge::GitLab => "write `group/name`, with all subgroups, as in the address of its page",
        };
        RepoName::parse(text).filter(|_| is_plain).ok_or(help)
    })
}

struct Found {
    hook: Hook,
    path_place: Option<Place>,
    email_place: Option<Place>,
    is_landing_known: bool,
}

/// Everything of a hook but its sender.
fn settings(
    section: &Section,
    name: HookName,
    forge: Forge,
    repo: RepoName,
    server: &Server,
    check: &mut Check,
) -> Found {
    let landing = section.get("deploy").and_then(|it| deploy::read(it, forge, &repo, check));
    let told = section.get("notify").and_then(|it| notify::read(it, check));
    let waiting = queue::read(section, &name, check);
    let path_place = landing.as_ref().and_then(|it| it.path_place);
    let email_place = told.as_ref().and_then(|it| it.email_place);
    let is_complete = landing.as_ref().is_some_and(|it| it.is_complete);
    let minutes = |it: u64| Duration::from_secs(it * 60);
    let hook = Hook {
        on: on::read(section, check),
        paths: on::paths(section, check),
        skip_markers: on::skip_markers(section, check),
        poll: section.read("poll", check, Poll::AtStart, on::poll),
        enabled: section.read("enabled", check, true, Field::flag),
        deploy: landing.map_or_else(|| deploy::default(forge, &repo), |it| it.deploy),
        run: section.read("run", check, Vec::new(), steps::read),
        activate: section.read("activate", check, Vec::new(), steps::read),
        health: section.read("health", check, Vec::new(), health::read),
        on_failure: section.read("on_failure", check, Vec::new(), steps::read),
        finally: section.read("finally", check, Vec::new(), steps::read),
        env: section.read("env", check, Default::default(), steps::values),
        pass_env: section.read("pass_env", check, Vec::new(), steps::passed_names),
        secrets: section.read("secrets", check, Default::default(), steps::named_secrets),
        user: section.read("user", check, None, |it, check| steps::user(it, check).map(Some)),
        timeout: section.read("timeout", check, minutes(30), Field::limit),
        idle_timeout: section.read("idle_timeout", check, minutes(10), Field::limit),
        kill_grace: section.read("kill_grace", check, Duration::from_secs(10), Field::duration),
        limits: section.read("limits", check, RunLimits::default(), limits::read),
        retry: waiting.retry,
        queue: waiting.queue,
        lane: waiting.lane,
        priority: waiting.priority,
        debounce: waiting.debounce,
        min_interval: waiting.min_interval,
        notify: told.map_or_else(Vec::new, |it| it.notify),
        environment: section.read("environment", check, "production".to_owned(), one_line),
        url: section.read("url", check, None, |it, check| it.parsed(check, "bad-url", units::link).map(Some)),
        max_log_bytes: server.max_log_bytes,
        source: name.own_source(),
        name,
        forge,
        repo,
    };
    on::refuse_without_git(section, &hook, check);
    later::read_hook(section, check);
    refuse_names_twice(section, &hook, check);
    warn_of_who_becomes_root(section, &hook, check);
    warn_of_steps_of_root(section, &hook, check);
    let is_landing_known = is_complete && (hook.user.is_some() || section.get("user").is_none());
    Found { hook, path_place, email_place, is_landing_known }
}

/// Steps that are root's run what is in a folder that another user can change.
fn warn_of_who_becomes_root(section: &Section, hook: &Hook, check: &mut Check) {
    let (Some(field), Some(path)) = (section.get("user"), hook.deploy.strategy.path()) else { return };
    let owner = fs::metadata(path).map_or(0, |it| it.uid());
    if hook.user.as_deref() != Some("root") || owner == 0 {
        return;
    }
    let user = user_name(owner);
    let shown = path.display();
    let message =
        format!("`{}: root` runs steps as root in `{shown}`, so its owner `{user}` can become root", field.path);
    check.warn(field.key_place, "owner-becomes-root", message, format!("name `{user}`, or leave the key out"));
}

/// A root daemon runs what commits bring as root, unless the hook or the owner of its folder says otherwise.
fn warn_of_steps_of_root(section: &Section, hook: &Hook, check: &mut Check) {
    let owner = hook.deploy.strategy.path().and_then(|it| fs::metadata(it).ok()).map_or(0, |it| it.uid());
    let is_named = section.get("user").is_some() || hook.steps().all(|it| it.user.is_some());
    if is_named || owner != 0 || !geteuid().is_root() {
        return;
    }
    let message = format!("`{}` names no `user`, so what its commits bring runs as root", section.path);
    let help = "name one: `user: NAME` (`useradd --system NAME` makes one); `user: root` says that root is meant";
    check.warn(section.place, "runs-as-root", message, help);
}

/// A variable can have one value only.
fn refuse_names_twice(section: &Section, hook: &Hook, check: &mut Check) {
    let Some(field) = section.get("secrets") else { return };
    let twice = hook.secrets.keys().find(|it| hook.env.contains_key(*it) || hook.pass_env.contains(it));
    if let Some(name) = twice {
        let message = format!("`{}.{name}` has another value in `env` or `pass_env`", field.path);
        check.error(field.key_place, "name-twice", message, "keep one of them");
    }
}

fn one_line(field: &Field, check: &mut Check) -> Option<String> {
    field.parsed(check, "bad-text", |text| {
        if text.chars().any(char::is_control) { Err("write it in one line") } else { Ok(text.to_owned()) }
    })
}
