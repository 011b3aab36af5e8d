//! `status`, `runs`, `show` and `deliveries`: what there is and how it went.
//!
//! Invariant: every list has `--json`, a bare array with the field names of [`crate::web::views`].

use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        client::{Client, Trouble},
        out::println,
        table::{BOLD, Cell, DIM, cell, clean, colour, conclude, duration, local_time, painted, print, print_json},
    },
    web::views::{Delivery, Hold, HookStatus, Run, RunInFull, Status},
};

/// Options of `status`.
#[derive(Args)]
pub(super) struct StatusOptions {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `runs`.
#[derive(Args)]
pub(super) struct RunsOptions {
    #[command(flatten)]
    reach: Reach,
    /// How many
    #[arg(short = 'n', default_value_t = 20, value_name = "COUNT")]
    count: u32,
    /// Only runs of this hook
    #[arg(long)]
    hook: Option<String>,
    /// Only runs in this state
    #[arg(long, value_parser = ["queued", "running", "finished"])]
    state: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `show`.
#[derive(Args)]
pub(super) struct ShowOptions {
    /// The run's number
    run: i64,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `deliveries`.
#[derive(Args)]
pub(super) struct DeliveriesOptions {
    #[command(flatten)]
    reach: Reach,
    /// How many
    #[arg(short = 'n', default_value_t = 20, value_name = "COUNT")]
    count: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `landfall status`.
pub(super) fn status(options: &StatusOptions) -> Exit {
    conclude(Client::find(&options.reach).and_then(|client| client.get::<Status>("/v1/status")).map(|status| {
        if options.json {
            return print_json(&status);
        }
        print_status(&status);
        Exit::Ok
    }))
}

/// `landfall runs`.
pub(super) fn runs(options: &RunsOptions) -> Exit {
    let mut path = format!("/v1/runs?limit={}", options.count);
    for (name, value) in [("hook", &options.hook), ("state", &options.state)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    conclude(Client::find(&options.reach).and_then(|client| client.get::<Vec<Run>>(&path)).map(|runs| {
        if options.json {
            return print_json(&runs);
        }
        if runs.is_empty() {
            anstream::eprintln!("no runs yet; `landfall deploy HOOK` makes one by hand");
        } else {
            let headings = ["RUN", "HOOK", "STATE", "COMMIT", "REF", "BY", "CREATED", "TOOK", "WHY"];
            print(&headings, &runs.iter().map(run_row).collect::<Vec<_>>());
        }
        Exit::Ok
    }))
}

/// `landfall show`.
pub(super) fn show(options: &ShowOptions) -> Exit {
    let path = path_of_run(options.run);
    conclude(Client::find(&options.reach).and_then(|client| client.get::<RunInFull>(&path)).map(|full| {
        if options.json {
            return print_json(&full);
        }
        print_run(&full);
        Exit::Ok
    }))
}

/// `landfall deliveries`.
pub(super) fn deliveries(options: &DeliveriesOptions) -> Exit {
    let path = format!("/v1/deliveries?limit={}", options.count);
    let deliveries = Client::find(&options.reach).and_then(|client| client.get::<Vec<Delivery>>(&path));
    conclude(deliveries.map(|deliveries| {
        if options.json {
            return print_json(&deliveries);
        }
        let rows: Vec<_> = deliveries.iter().map(delivery_row).collect();
        print(&["RECEIVED", "DELIVERY", "PATH", "EVENT", "STATUS", "RESULT", "RUNS", "MESSAGE"], &rows);
        Exit::Ok
    }))
}

/// Asks the daemon for one run.
pub(super) fn fetch_run(client: &Client, run: i64) -> Result<Run, Trouble> {
    client.get::<RunInFull>(&path_of_run(run)).map(|full| full.run)
}

/// Where the daemon tells of a run.
pub(super) fn path_of_run(run: i64) -> String {
    format!("/v1/runs/{run}")
}

/// The text with everything but plain characters escaped for a URL's query or path.
pub(super) fn escape(text: &str) -> String {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    text.bytes().map(|it| if is_plain(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

/// The word that tells most about a run: its outcome, or else its state.
pub(super) fn state_word(run: &Run) -> &str {
    run.outcome.as_deref().unwrap_or(&run.state)
}

/// The first digits of a commit.
pub(super) fn short(sha: Option<&str>) -> &str {
    sha.map_or("-", |it| it.get(..7).unwrap_or(it))
}

fn short_ref(full: Option<&str>) -> &str {
    let short = |it: &'_ str| it.len() - it.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/").len();
    full.map_or("-", |it| &it[short(it)..])
}

fn run_row(run: &Run) -> Vec<Cell> {
    let word = state_word(run);
    vec![
        painted(run.id.to_string(), BOLD),
        cell(&run.hook),
        painted(word, colour(word)),
        cell(short(run.sha.as_deref())),
        cell(short_ref(run.ref_name.as_deref())),
        cell(&run.actor),
        painted(local_time(&run.created_at), DIM),
        cell(duration(run.started_at.as_deref(), run.finished_at.as_deref())),
        cell(run.reason.as_deref().or(run.subject.as_deref()).unwrap_or("")),
    ]
}

fn delivery_row(delivery: &Delivery) -> Vec<Cell> {
    let runs: Vec<String> = delivery.runs.iter().map(i64::to_string).collect();
    vec![
        painted(local_time(&delivery.received_at), DIM),
        cell(delivery.id.to_string()),
        cell(&delivery.path),
        cell(delivery.event.as_deref().unwrap_or("-")),
        cell(delivery.status.to_string()),
        painted(&delivery.result, colour(&delivery.result)),
        cell(if runs.is_empty() { "-".to_owned() } else { runs.join(" ") }),
        cell(&delivery.message),
    ]
}

fn print_status(status: &Status) {
    let Status { version, pid, started_at, config, listen, state, .. } = status;
    println!("{BOLD}landfall {version}{BOLD:#}, process {pid}, up since {}", local_time(started_at));
    println!("  receives at {listen}, follows {config}, keeps its state in {state}");
    if let Some(trouble) = &status.config_trouble {
        let red = colour("failed");
        println!("{red}  hooks.yaml has changed and is not in force, since it has problems:{red:#}");
        for line in trouble.lines() {
            println!("    {line}");
        }
    }
    if let Some(damage) = &status.damage {
        let red = colour("failed");
        println!("{red}  the database is damaged, and every push is answered 503: {damage}{red:#}");
        println!("    stop the daemon, keep a copy of the state folder, and see `landfall doctor`");
    }
    if let Some(loss) = &status.loss {
        let red = colour("failed");
        println!("{red}  {}, at the start of {}{red:#}", loss.message, local_time(&loss.at));
        println!("    what it had accepted in between is looked for at the remotes; `landfall deploy HOOK` makes sure");
    }
    if let Some(hold) = &status.hold {
        print_hold("everything is", hold);
    }
    println!(
        "  letters that wait: {}; requests refused as unproven since the start: {}",
        status.letters_waiting, status.unauthenticated
    );
    println!();
    let rows: Vec<_> = status.hooks.iter().map(|it| hook_row(it, status.hold.is_some())).collect();
    print(&["HOOK", "REPOSITORY", "LIVE", "NOW", "WAITING", "LAST", "PAYLOAD URL"], &rows);
    for hook in &status.hooks {
        if let Some(why) = &hook.lane_stopped {
            let red = colour("failed");
            println!("{red}lane {} is stopped:{red:#} {}; `landfall resume --lane {0}`", hook.lane, clean(why));
        }
        if let Some(hold) = &hook.hold {
            print_hold(&format!("{} is", hook.hook), hold);
        }
        if let Some(note) = &hook.live_note {
            println!("  {}: {}", hook.hook, clean(note));
        }
        if let Some(new) = &hook.renamed_to {
            let (red, new) = (colour("failed"), clean(new));
            println!(
                "{red}  {}: the forge now calls its repository {new}:{red:#} write that for {} in hooks.yaml, until then \
                 its pushes start nothing",
                hook.hook, hook.repo
            );
        }
        if let Some(why) = &hook.remote_trouble {
            let red = colour("failed");
            println!(
                "{red}  {}: its remote cannot be asked for pushes that were missed:{red:#} {}",
                hook.hook,
                clean(why)
            );
        }
        for bad in &hook.bad_commits {
            let sha = short(Some(&bad.sha));
            println!(
                "  {}: commit {sha} did not come up in run {} and is not queued again; `landfall resume {0} --commit \
                 {sha}` allows it",
                hook.hook, bad.run
            );
        }
    }
}

fn print_hold(what: &str, hold: &Hold) {
    let red = colour("failed");
    let until = hold.until.as_ref().map(|it| format!(" until {}", local_time(it))).unwrap_or_default();
    let (author, reason) = (clean(&hold.author), clean(&hold.reason));
    println!("{red}  {what} on hold{red:#} since {}{until} by {author}: {reason}", local_time(&hold.since));
}

fn hook_row(hook: &HookStatus, is_all_held: bool) -> Vec<Cell> {
    let now = match &hook.running {
        Some(run) => painted(format!("run {} at {}", run.id, run.step.as_deref().unwrap_or("-")), colour("running")),
        None if !hook.enabled => painted("off", DIM),
        None if hook.hold.is_some() || is_all_held => painted("on hold", colour("failed")),
        None => painted("idle", DIM),
    };
    let last = match &hook.last {
        Some(run) => painted(format!("run {} {}", run.id, state_word(run)), colour(state_word(run))),
        None => painted("-", DIM),
    };
    vec![
        painted(&hook.hook, BOLD),
        cell(&hook.repo),
        cell(short(hook.live_sha.as_deref())),
        now,
        cell(hook.waiting.to_string()),
        last,
        painted(&hook.payload_url, DIM),
    ]
}

fn print_run(full: &RunInFull) {
    let run = &full.run;
    let word = state_word(run);
    let style = colour(word).bold();
    println!("{BOLD}run {}{BOLD:#} of {BOLD}{}{BOLD:#}: {style}{word}{style:#}", run.id, run.hook);
    if let Some(reason) = &run.reason {
        line("why", reason.clone());
    }
    if word != "unreadable" {
        print_facts(run);
    }
    for letter in &full.letters {
        let trouble = letter.trouble.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        let tries = if letter.attempts == 1 { "once".to_owned() } else { format!("{} times", letter.attempts) };
        let told = format!("{} by {}: {}, tried {tries}{trouble}", letter.occasion, letter.to, letter.state);
        line("letter", told);
    }
    line("folder", full.folder.clone());
    println!("  {DIM}read its output with{DIM:#} landfall log {}", run.id);
}

fn line(name: &str, value: String) {
    println!("  {DIM}{name:<10}{DIM:#} {}", clean(&value));
}

fn print_facts(run: &Run) {
    match (&run.sha, run.state.as_str()) {
        (Some(sha), _) => line("commit", format!("{sha} {}", run.subject.as_deref().unwrap_or("")).trim_end().into()),
        // It began with a branch alone, and never looked where that is.
        (None, "finished") => line("commit", "none was fetched".into()),
        (None, _) => line("commit", "not known yet".into()),
    }
    line("ref", run.ref_name.clone().unwrap_or_else(|| "-".into()));
    line("repository", format!("{} to {}", run.repo, run.environment));
    line("trigger", format!("{} by {}, attempt {}", run.trigger, run.actor, run.attempt));
    let times = [
        ("created", Some(&run.created_at)),
        ("started", run.started_at.as_ref()),
        ("finished", run.finished_at.as_ref()),
    ];
    for (name, at) in times {
        line(name, at.map_or_else(|| "-".into(), |it| local_time(it)));
    }
    line("took", duration(run.started_at.as_deref(), run.finished_at.as_deref()));
    if let Some(step) = &run.step {
        line("step", run.exit_code.map_or_else(|| step.clone(), |code| format!("{step}, exit code {code}")));
    }
    if !run.supersedes.is_empty() {
        let runs: Vec<_> = run.supersedes.iter().map(|it| format!("run {it}")).collect();
        line("replaces", runs.join(", "));
    }
    if let Some(release) = &run.release {
        line("back to", release.clone());
    }
    if let Some(because) = &run.because {
        line("because", because.clone());
    }
    if let Some(earlier) = run.retry_of {
        line("repeats", format!("run {earlier}"));
    }
    if let Some(url) = &run.compare_url {
        line("compare", url.clone());
    }
    for (key, value) in &run.fields {
        line("field", format!("{key} = {value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{escape, short_ref};

    #[test]
    fn a_query_value_is_escaped() {
        assert_eq!(escape("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn refs_are_shown_by_their_short_names() {
        assert_eq!(short_ref(Some("refs/heads/release/1")), "release/1");
        assert_eq!(short_ref(Some("refs/tags/v1")), "v1");
        assert_eq!(short_ref(None), "-");
    }
}
