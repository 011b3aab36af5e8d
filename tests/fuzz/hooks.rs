//! hooks.yaml: whatever is written, every problem has its place, and what is taken is taken whole.
//!
//! Invariant: variables that a file names for its secrets are set, so that what is refused is refused for what it says.

use std::{fs, path::Path, sync::Arc};

use landfall::{
    hooks::{self, Environment, Problem, Severity, problem},
    journal::job,
    model::{
        hook::Hook,
        job::{AsOf, Asked, Job, Target as JobTarget, Trigger},
        text,
    },
};

use crate::play::{Shape, Target, play, shape};

/// Everything that a variable of this name may stand for.
fn environment(text: &str) -> Environment {
    let named = text.split("{env: ").skip(1).filter_map(|rest| rest.split(['}', ',']).next());
    named.fold(Environment::default(), |it, name| it.with(name.trim(), value_of(name)))
}

fn value_of(name: &str) -> &'static str {
    match name {
        name if name.contains("SIGNING_TOKEN") => "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
        name if name.contains("SLACK") => "https://hooks.slack.com/services/T0/B0/x",
        _ => "long-enough-to-be-one",
    }
}

fn judge(input: &[u8], folder: &Path) -> Result<Shape, String> {
    let file = folder.join("hooks.yaml");
    fs::write(&file, input).map_err(|err| err.to_string())?;
    let text = String::from_utf8_lossy(input);
    let environment = environment(&text);
    let outlined = hooks::outline(&file, &environment);
    match hooks::load(&file, &environment) {
        Ok(loaded) => {
            have_their_place(&loaded.warnings, &text)?;
            shows_nothing_that_acts(&loaded.warnings, &loaded.text)?;
            let outlined = outlined.map_err(|err| format!("it loads, and its outline is refused: {err}"))?;
            if outlined.hooks.keys().ne(loaded.hooks.hooks.keys()) {
                return Err("the outline has other hooks".into());
            }
            for hook in loaded.hooks.hooks.values() {
                is_stored_whole(hook)?;
            }
            Ok(shape(codes(&loaded.warnings)))
        }
        Err(refused) => {
            if !refused.problems.iter().any(|it| it.severity == Severity::Error) {
                return Err("it is refused without an error".into());
            }
            have_their_place(&refused.problems, &text)?;
            shows_nothing_that_acts(&refused.problems, &refused.text)?;
            if outlined.is_ok() && !codes(&refused.problems).iter().any(|it| is_of_secrets(it)) {
                return Err(format!("its outline is taken, and the file refused: {refused}"));
            }
            Ok(shape(codes(&refused.problems)))
        }
    }
}

/// The problems that only those meet who look secrets up.
fn is_of_secrets(code: &str) -> bool {
    code.contains("secret") || code.contains("token") || code == "unset-variable" || code == "bad-url"
}

fn codes(problems: &[Problem]) -> Vec<&'static str> {
    let mut codes: Vec<&str> = problems.iter().map(|it| it.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn have_their_place(problems: &[Problem], text: &str) -> Result<(), String> {
    // Line ends are those of YAML, of which a lone carriage return is one.
    let lines = 1 + text.matches(['\n', '\r']).count();
    match problems.iter().find(|it| it.line == 0 || it.line > lines || it.column == 0 || it.end_column < it.column) {
        Some(problem) => Err(format!("has no place among {lines} lines: {problem:?}")),
        None => Ok(()),
    }
}

fn shows_nothing_that_acts(problems: &[Problem], source: &str) -> Result<(), String> {
    let page = problem::render(problems, source, false);
    match page.chars().find(|it| *it != '\n' && text::acts(*it)) {
        Some(found) => Err(format!("shows {found:?}: {page}")),
        None => Ok(()),
    }
}

/// A job with this hook reads back as it was written.
fn is_stored_whole(hook: &Arc<Hook>) -> Result<(), String> {
    let job = Job {
        hook: Arc::clone(hook),
        hook_as_of: AsOf::Acceptance,
        trigger: Trigger::Manual,
        asked: Asked::Push,
        actor: "fuzz".into(),
        target: JobTarget::DefaultBranch,
        push: None,
        attempt: 1,
        retry_of: None,
    };
    let read = job::decode(&job::encode(&job)).map_err(|err| format!("what was stored cannot be read: {err}"))?;
    match format!("{:?}", read.hook) == format!("{hook:?}") {
        true => Ok(()),
        false => Err(format!("{hook:?} was stored, and {:?} read", read.hook)),
    }
}

/// The example, and the blocks of the README.
fn samples() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("a document");
    let readme = read("README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|it| it.split("```").next());
    let mut samples: Vec<Vec<u8>> = blocks.map(|it| it.as_bytes().to_vec()).collect();
    samples.push(read("hooks.yaml").into_bytes());
    let every_key = "version: 1\nserver: {listen: [\"127.0.0.1:9000\"], workers: 2, max_body: 1MiB, rate_limit: 5}\n\
        defaults: &d {timeout: 1m, env: {A: b}}\nhooks:\n  a:\n    github: acme/a\n    secret: {env: A_SECRET}\n    \
        on: {push: [main, \"!x/*\"], tag: \"v*\"}\n    paths: [\"src/**\"]\n    deploy: {strategy: none}\n    \
        run: [{name: n, run: \"true\", timeout: 5s, env: {B: c}, cwd: sub}]\n    health: {tcp: \"127.0.0.1:1\"}\n    \
        retry: {max: 1, on: [fetch], backoff: 1s}\n    queue: all\n    lane: l\n    priority: -3\n";
    samples.push(every_key.as_bytes().to_vec());
    samples
}

#[test]
fn whatever_is_written_in_hooks_yaml_is_taken_whole_or_refused_with_a_place() {
    play(Target {
        name: "hooks",
        samples: samples(),
        words: &[
            b"hooks:\n",
            b"  a:\n    ",
            b"github: acme/x\n",
            b"secret: {env: X_SECRET}\n",
            b"{file: x}",
            b"&a ",
            b"*a",
            b"<<: *a\n",
            b"!!str ",
            b"|\n  ",
            b">-\n",
            b"---\n",
            b"? ",
            b"\t",
            b": ",
            b"- ",
            b"[",
            b"]",
            b"{",
            b"}",
            b"\"\\x1b\"",
            b"\xe2\x80\xae",
            b"\xef\xbb\xbf",
            b"\r",
            b"limits: {processes: 10, memory: 1GiB}\n",
            b"~",
            b"'",
            b"#",
        ],
        inputs: 1_500,
        judge,
    });
}
