//! hooks.yaml, version 1: from text to [`Hooks`], with every problem at once.
//!
//! A key of a hook wins over the same key of `defaults` as a whole: `env` of a hook replaces `env` of `defaults`, and
//! does not add to it. YAML's own merge key (`<<: *anchor`) is there for those who want to add.
//!
//! Invariant: [`Hooks`] exist only for a file without errors; they are complete, immutable, and hold no default.

pub mod environment;
pub mod problem;
pub mod reload;

mod credentials;
mod deploy;
mod health;
mod hook;
mod keys;
mod later;
mod limits;
mod listen;
mod notify;
mod on;
mod patterns;
mod possible;
mod queue;
mod read;
mod releases;
mod remote;
mod secrets;
mod server;
mod sources;
mod steps;
mod units;
mod whole;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use thiserror::Error;

pub use self::units::duration;
pub use self::{
    environment::{Environment, EnvironmentError},
    listen::{Connections, Listen, Proxies},
    notify::{Smtp, SmtpTls},
    problem::{Problem, Severity},
    secrets::{NamedSecret, SecretError},
    server::Server,
};
use self::{
    hook::{Draft, Shared, Surroundings},
    read::{Check, Field, Section},
    secrets::WrittenSecrets,
    yaml::{Node, Place, Value},
};
use crate::model::{
    hook::Hook,
    name::{HookName, SourceName},
    push::RepoName,
    secret::{Secret, SecretRef},
    source::{Forge, Source, SourcePath},
};

/// No hooks.yaml needs more; ten thousand hooks take three.
const FILE_BYTES_MAX: usize = 16 << 20;

/// A checked hooks.yaml. It never changes; a reload makes another one.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// The file, as it was named.
    pub file: PathBuf,
    /// How the daemon runs.
    pub server: Server,
    /// Every sender that may post: the shared ones, and those of hooks that have their own.
    pub sources: BTreeMap<SourcePath, Source>,
    /// Every hook.
    pub hooks: BTreeMap<HookName, Arc<Hook>>,
    /// The account that e-mail is sent by; there is one if any hook sends e-mail.
    pub smtp: Option<Smtp>,
    of_shared: OfShared,
    written: WrittenSecrets,
    content_hash: [u8; 32],
}

/// The hooks of each shared source and repository: a push finds its own among ten thousand as fast as among ten.
type OfShared = HashMap<SourceName, HashMap<RepoName, Vec<Arc<Hook>>>>;

impl Hooks {
    /// The hook of that name.
    pub fn hook(&self, name: &HookName) -> Option<&Arc<Hook>> {
        self.hooks.get(name)
    }

    /// The hooks whose pushes of this repository come from this shared source, by their names.
    pub fn hooks_of(&self, source: &SourceName, repo: &RepoName) -> &[Arc<Hook>] {
        self.of_shared.get(source).and_then(|it| it.get(repo)).map_or(&[], Vec::as_slice)
    }

    /// The path that deliveries for this hook are posted to.
    pub fn path_of(&self, hook: &Hook) -> SourcePath {
        let own = SourcePath::Hook(hook.name.clone());
        if self.sources.contains_key(&own) { own } else { SourcePath::Shared(hook.source.clone()) }
    }

    /// Looks a secret up, now: it may have changed since the file was loaded.
    pub fn secret(&self, secret: &SecretRef, environment: &Environment) -> Result<Secret, SecretError> {
        self.written.find(secret, environment)
    }
}

/// A file without errors.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub hooks: Hooks,
    /// What somebody should look at all the same.
    pub warnings: Vec<Problem>,
    /// Its text with secrets struck out, to show the warnings in.
    pub text: String,
}

/// A file with errors, or none at all.
#[derive(Debug, Error)]
pub struct Refused {
    /// Errors and warnings in the order of the file.
    pub problems: Vec<Problem>,
    /// Its text with secrets struck out, to show the problems in.
    pub text: String,
}

impl fmt::Display for Refused {
    /// One line for each error.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.problems.iter().filter(|it| it.severity == Severity::Error);
        let lines: Vec<String> = errors.map(Problem::to_string).collect();
        out.write_str(&lines.join("\n"))
    }
}

/// What a file says, for those who do not act on it: no secret was looked up, so nobody could be proven by it.
#[derive(Debug)]
pub struct Outline {
    /// How the daemon runs.
    pub server: Server,
    /// Every hook.
    pub hooks: BTreeMap<HookName, Arc<Hook>>,
    /// Every secret that is named, in the order of the file.
    pub secrets: Vec<NamedSecret>,
    /// What somebody should look at.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file.
pub fn load(file: &Path, environment: &Environment) -> Result<Loaded, Refused> {
    let Read { found, written, warnings, text, text_shown, .. } = read(file, environment, true)?;
    let Found { server, sources, hooks, smtp } = found;
    let content_hash = Sha256::digest(text.as_bytes()).into();
    let (file, of_shared) = (file.to_owned(), of_shared(&sources, &hooks));
    let hooks = Hooks { file, server, sources, hooks, smtp, of_shared, written, content_hash };
    Ok(Loaded { hooks, warnings, text: text_shown })
}

/// Reads and checks a file, all but its secrets: they may be at the daemon's hand alone.
pub fn outline(file: &Path, environment: &Environment) -> Result<Outline, Refused> {
    let Read { found, named: secrets, warnings, .. } = read(file, environment, false)?;
    Ok(Outline { server: found.server, hooks: found.hooks, secrets, warnings })
}

/// A file that was read without errors.
struct Read {
    found: Found,
    written: WrittenSecrets,
    named: Vec<NamedSecret>,
    warnings: Vec<Problem>,
    text: String,
    /// The text with secrets struck out.
    text_shown: String,
}

fn read(file: &Path, environment: &Environment, looks_up_secrets: bool) -> Result<Read, Refused> {
    let (text, folder) = read_text(file)?;
    let readable_by_others = fs::metadata(file).is_ok_and(|it| it.permissions().mode() & 0o044 != 0);
    let mut check = Check::new(file, folder.clone(), readable_by_others, environment);
    check.looks_up_secrets = looks_up_secrets;
    whole::warn_of_others(file, &mut check);
    let found = match yaml::parse(&text) {
        Ok(root) => read_top(&root, &mut check),
        Err(flaw) => {
            check.flaw(flaw);
            likely_secrets(&text).into_iter().for_each(|it| check.hide(it));
            // How deep a tab was meant to lead is not known: as deep as makes the most of the file right.
            let roots = [2, 4, 6, 8].into_iter().filter_map(|width| yaml::parse_past_tabs(&text, width));
            let likeliest = roots.min_by_key(|root| {
                let mut scratch = Check::new(file, folder.clone(), readable_by_others, environment);
                scratch.looks_up_secrets = looks_up_secrets;
                read_top(root, &mut scratch);
                scratch.errors()
            });
            if let Some(root) = likeliest {
                read_top(&root, &mut check);
            }
            None
        }
    };
    let named = std::mem::take(&mut check.named);
    let (problems, text_shown, written) = check.finish(&text);
    match found {
        Some(found) if problems.iter().all(|it| it.severity == Severity::Warning) => {
            Ok(Read { found, written, named, warnings: problems, text, text_shown })
        }
        Some(_) | None => Err(Refused { problems, text: text_shown }),
    }
}

/// The state folder that a file names, without looking at anything else in it: a client of a running daemon finds the
/// socket there, also while the file has mistakes and its secrets are not at hand.
pub fn state_folder(file: &Path, environment: &Environment) -> Result<PathBuf, Refused> {
    let (text, folder) = read_text(file)?;
    let mut check = Check::new(file, folder, false, environment);
    let root = yaml::parse(&text).ok().or_else(|| yaml::parse_beginning(&text));
    let top = root.as_ref().and_then(|it| match &it.value {
        Value::Map(entries) => Some(entries),
        Value::Null | Value::Text(_) | Value::List(_) => None,
    });
    let server = top.into_iter().flatten().find(|it| it.key == "server").map(|it| &it.node.value);
    let entries = match server {
        Some(Value::Map(entries)) => entries.as_slice(),
        Some(Value::Null | Value::Text(_) | Value::List(_)) | None => &[],
    };
    let fields = entries.iter().filter(|it| it.key == "state").cloned().collect::<Vec<_>>();
    let section = Section::open("server", Place::at(1, 1), &fields, &mut check);
    let state = server::state(&section, &mut check);
    let (problems, text, _) = check.finish(&text);
    if problems.is_empty() { Ok(state) } else { Err(Refused { problems, text }) }
}

/// The state folder of a file that says nothing of it: for a client, where the file cannot be read.
pub fn usual_state_folder(file: &Path, environment: &Environment) -> io::Result<PathBuf> {
    let folder = std::path::absolute(file)?.parent().map(server::tidy).unwrap_or_else(|| PathBuf::from("/"));
    Ok(server::usual_state(&folder, environment))
}

/// The text of a file, and the folder that relative paths in it begin in.
fn read_text(file: &Path) -> Result<(String, PathBuf), Refused> {
    let refused = |code: &'static str, line: usize, message: String, help: &str| {
        let (file, help) = (file.to_owned(), Some(help.to_owned()));
        let problem = Problem { file, line, column: 1, end_column: 2, code, severity: Severity::Error, message, help };
        Refused { problems: vec![problem], text: String::new() }
    };
    let read = || -> io::Result<(Vec<u8>, PathBuf)> {
        let folder = std::path::absolute(file)?.parent().map(server::tidy).unwrap_or_else(|| PathBuf::from("/"));
        Ok((read_bytes(file)?, folder))
    };
    let (bytes, folder) = read().map_err(|err| {
        let message = format!("cannot read `{}`: {err}", file.display());
        refused("unreadable-file", 1, message, "name the file, or run where it is")
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {}MiB", FILE_BYTES_MAX >> 20);
        return Err(refused("too-large", 1, message, "is it a hooks.yaml at all?"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, folder)),
        Err(err) => {
            let good = &err.as_bytes()[..err.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|it| **it == b'\n').count();
            Err(refused("not-utf8", line, "the file is not UTF-8 from this line on".into(), "save it as UTF-8"))
        }
    }
}

/// What the file holds, and no more than a byte beyond what it may. A pipe in its place would never end; one that a shell
/// names by its descriptor does.
fn read_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let is_descriptor = file.starts_with("/dev") || file.starts_with("/proc");
    if !is_descriptor && !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where secrets probably stand in a text that is no tree.
fn likely_secrets(text: &str) -> Vec<Place> {
    let likely = |(index, line): (usize, &str)| {
        let word = ["secret", "token", "password", "whsec_"].iter().filter_map(|it| line.find(it)).min()?;
        let (begin, end) = (line[..word].chars().count() + 1, line.chars().count() + 1);
        let after = line[word..].split_once(':')?;
        let column = begin + after.0.chars().count() + 1;
        Some(Place { line: index + 1, column, end_line: index + 1, end_column: end })
    };
    text.lines().enumerate().filter_map(likely).collect()
}

struct Found {
    server: Server,
    sources: BTreeMap<SourcePath, Source>,
    hooks: BTreeMap<HookName, Arc<Hook>>,
    smtp: Option<Smtp>,
}

fn read_top(root: &Node, check: &mut Check) -> Option<Found> {
    let Value::Map(entries) = &root.value else {
        check.error(root.place, "wrong-type", "the file must be a map", "begin it with `hooks:`");
        return None;
    };
    let top = Section::open("", root.place, entries, check);
    top.refuse_unknown(check, keys::TOP);
    top.read("version", check, 1, |it, check| {
        it.parsed(
            check,
            "unknown-version",
            |text| if text == "1" { Ok(1) } else { Err("this Landfall reads version 1") },
        )
    });
    let section = top.get("server").and_then(|it| it.names(check));
    let section = section.unwrap_or(Section { path: "server".into(), place: root.place, fields: Vec::new() });
    let server = server::read(&section, check);
    let smtp = top.get("smtp").map(|it| notify::read_smtp(it, check));
    if let Some(slack) = top.get("slack") {
        later::read_slack(slack, check);
    }
    let defaults = top.get("defaults").and_then(|it| it.names(check));
    if let Some(defaults) = &defaults {
        hook::read_defaults(defaults, &server, check);
    }
    let source_fields = top.get("sources").and_then(|it| it.names(check)).map_or_else(Vec::new, |it| it.fields);
    let (mut sources, shared) = read_sources(&source_fields, &server, check);
    let around = Surroundings { server: &server, shared: &shared, defaults: defaults.as_ref() };
    let drafts = read_hooks(&top, &around, check)?;
    whole::check_all(&drafts, &source_fields, smtp.is_some(), &server, check);
    sources.extend(drafts.iter().filter_map(|it| it.source.clone()).map(|it| (it.path.clone(), it)));
    let asks_for_addresses =
        !server.allow_from.is_empty() || sources.values().any(|it: &Source| !it.allow_from.is_empty());
    whole::check_proxies(&section, &server, asks_for_addresses, check);
    let hooks = drafts.into_iter().map(|it| (it.hook.name.clone(), Arc::new(it.hook))).collect();
    Some(Found { server, sources, hooks, smtp: smtp.flatten() })
}

fn of_shared(sources: &BTreeMap<SourcePath, Source>, hooks: &BTreeMap<HookName, Arc<Hook>>) -> OfShared {
    let mut of_shared = OfShared::new();
    for hook in hooks.values().filter(|it| !sources.contains_key(&SourcePath::Hook(it.name.clone()))) {
        let of_source = of_shared.entry(hook.source.clone()).or_default();
        of_source.entry(hook.repo.clone()).or_default().push(Arc::clone(hook));
    }
    of_shared
}

type Sources<'t> = (BTreeMap<SourcePath, Source>, HashMap<&'t str, Shared>);

fn read_sources<'t>(fields: &[Field<'t>], server: &Server, check: &mut Check) -> Sources<'t> {
    let (mut sources, mut shared) = (BTreeMap::new(), HashMap::new());
    for field in fields {
        let found = sources::read(field, &server.allow_from, check);
        let has_addresses = match &field.node.value {
            Value::Map(entries) => entries.iter().any(|it| it.key == "allow_from"),
            Value::Null | Value::Text(_) | Value::List(_) => false,
        };
        let forge: Option<Forge> = found.as_ref().map(|(_, it)| it.forge());
        shared.insert(field.key, Shared { forge, has_addresses });
        sources.extend(found.map(|(_, it)| (it.path.clone(), it)));
    }
    (sources, shared)
}

/// All hooks that can be read; `None` if there is no map of hooks at all.
fn read_hooks<'t>(top: &Section<'t>, around: &Surroundings<'_, 't>, check: &mut Check) -> Option<Vec<Draft>> {
    let help = "the shortest useful file has one entry under `hooks`";
    let Some(field) = top.get("hooks") else {
        if top.misspells(&["hooks"], &[keys::TOP]) {
            return None;
        }
        check.error(top.place, "missing-key", "the file has no `hooks`", help);
        return None;
    };
    let hooks = field.names(check)?;
    if hooks.fields.is_empty() {
        field.refuse(check, "no-hooks", "is empty", help);
    }
    Some(hooks.fields.iter().filter_map(|it| hook::read(it, around, check)).collect())
}
