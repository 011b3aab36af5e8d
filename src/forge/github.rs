//! Reads GitHub's deliveries: pings, pushes, and all the events that deploy nothing.
//!
//! Invariant: what makes a push here is the event's name and the body's shape together; one without the other is
//! refused.

use hyper::HeaderMap;
use serde::Deserialize;

use crate::{
    forge::{
        Admitted, DedupeKey, Envelope, Media, Ping, Proven, Rejection, VerifiedPush,
        facts::{self, Place},
        form, headers,
        payload::{self, List, Object, Scalar, Words},
    },
    model::{
        push::{CommitFacts, CommitId, Push, RefName, RepoName},
        source::Forge,
    },
};

const EVENT: &str = "X-GitHub-Event";
const DELIVERY: &str = "X-GitHub-Delivery";

/// Reads what a proven request to a GitHub source is about.
pub(super) fn admit(proven: &Proven, headers: &HeaderMap) -> (Envelope, Result<Admitted, Rejection>) {
    let event = headers::event(headers, EVENT);
    let id = headers::delivery_id(headers, DELIVERY).and_then(|it| it.ok_or(Rejection::MissingHeader(DELIVERY)));
    // The signature covers the body and not the id, so the body alone says which delivery it is.
    let mut dedupe = vec![DedupeKey::Body(proven.body_hash())];
    dedupe.extend(id.iter().cloned().map(DedupeKey::Named));
    let envelope = Envelope { event: event.clone().ok(), delivery_id: id.clone().ok(), dedupe };
    let verdict = event.and_then(|event| id.and_then(|_| judge(&event, proven, headers)));
    (envelope, verdict)
}

fn judge(event: &str, proven: &Proven, headers: &HeaderMap) -> Result<Admitted, Rejection> {
    let media = Media::announced(proven.forge(), headers).map_err(|err| Rejection::BadPayload(err.to_string()))?;
    match media {
        Media::Json => judge_json(event, proven.body()),
        Media::Form => judge_json(event, &form::payload(proven.body())?),
    }
}

fn judge_json(event: &str, json: &[u8]) -> Result<Admitted, Rejection> {
    let core = payload::read::<Core>(json)?;
    if event == "push" {
        return read_push(&core, json);
    }
    if core.is_push() && EVENTS.contains(&event) {
        return Err(Rejection::EventMismatch(format!("the event is `{event}`, and the body is a push")));
    }
    match event {
        "ping" => Ok(Admitted::Ping(read_ping(&core, json)?)),
        _ => Ok(Admitted::Other { reason: format!("event `{event}` is not one that deploys") }),
    }
}

fn read_ping(core: &Core, json: &[u8]) -> Result<Ping, Rejection> {
    let webhook = payload::read_optional::<PingFacts>(json)?.hook;
    let repo = core.repository.get().and_then(|it| RepoName::parse(it.full_name.text()?));
    Ok(Ping { repo, events: webhook.get().and_then(|it| it.events.0.clone()) })
}

fn read_push(core: &Core, json: &[u8]) -> Result<Admitted, Rejection> {
    let place = facts::place(&core.ref_name)?;
    let before = facts::commit("before", &core.before)?;
    let after = facts::commit("after", &core.after)?.filter(|_| !core.deleted.is_true());
    let repository = core.repository.get();
    let repo = facts::repo("repository.full_name", repository.map(|it| &it.full_name))?;
    let ref_name = match place {
        Place::Deployable(ref_name) => ref_name,
        Place::Elsewhere => {
            return Ok(Admitted::Other { reason: "the ref is neither a branch nor a tag".into() });
        }
    };
    let described = core.head_commit.get().and_then(|it| CommitId::parse(it.id.text()?));
    // `after` of an annotated tag is the tag itself, and `head_commit` the commit that it names.
    let commit = match (&ref_name, after) {
        (RefName::Tag(_), Some(tag)) => Some(described.clone().unwrap_or(tag)),
        (RefName::Tag(_), None) => None,
        (RefName::Branch(_), after) => after,
    };
    let facts = payload::read_optional::<Facts>(json)?;
    let head = facts.head_commit.get().filter(|_| described.is_some() && described == commit).map(Commit::facts);
    let push = Box::new(Push {
        forge: Forge::GitHub,
        repo,
        default_branch: repository.and_then(|it| facts::default_branch(&it.default_branch)),
        ref_name,
        change: facts::change(commit),
        before,
        actor: facts.actor(),
        compare_url: facts.compare.text().and_then(facts::url),
        commit_count: facts.commits.count,
        head,
    });
    let repository = repository.and_then(|it| it.id.number());
    Ok(Admitted::Push(VerifiedPush { push, repository, instance: None }))
}

/// What can refuse a push, or changes where it goes.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Core {
    #[serde(rename = "ref")]
    ref_name: Scalar,
    before: Scalar,
    after: Scalar,
    deleted: Scalar,
    repository: Object<Repository>,
    head_commit: Object<CommitName>,
}

impl Core {
    /// Whether the body has the shape of a push. No other event of GitHub has all three.
    fn is_push(&self) -> bool {
        [&self.ref_name, &self.before, &self.after].iter().all(|it| it.text().is_some())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Repository {
    id: Scalar,
    full_name: Scalar,
    default_branch: Scalar,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CommitName {
    id: Scalar,
}

/// What a ping tells of its webhook.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PingFacts {
    hook: Object<Webhook>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Webhook {
    events: Words,
}

/// What people like to know.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Facts {
    compare: Scalar,
    commits: List<CommitName>,
    head_commit: Object<Commit>,
    pusher: Object<Person>,
    sender: Object<Account>,
}

impl Facts {
    fn actor(&self) -> String {
        let pusher = self.pusher.get().and_then(|it| facts::line(&it.name));
        let sender = || self.sender.get().and_then(|it| facts::line(&it.login));
        pusher.or_else(sender).unwrap_or_default()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Commit {
    message: Scalar,
    author: Object<Person>,
}

impl Commit {
    fn facts(&self) -> CommitFacts {
        let author = self.author.get();
        facts::commit_facts(&self.message, author.map(|it| &it.name), author.map(|it| &it.email))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Person {
    name: Scalar,
    email: Scalar,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Account {
    login: Scalar,
}

/// Every event but `push`. <https://docs.github.com/en/webhooks/webhook-events-and-payloads>
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "branch_protection_configuration", "branch_protection_rule", "check_run", "check_suite", "code_scanning_alert",
    "commit_comment", "content_reference", "create", "custom_property", "custom_property_promoted_to_enterprise",
    "custom_property_values", "delete", "dependabot_alert", "deploy_key", "deployment",
    "deployment_protection_rule", "deployment_review", "deployment_status", "discussion", "discussion_comment",
    "enterprise", "exemption_request_push_ruleset", "exemption_request_secret_scanning", "fork",
    "github_app_authorization", "gollum", "installation", "installation_repositories", "installation_target",
    "integration_installation", "integration_installation_repositories", "issue_comment", "issue_dependencies",
    "issues", "label", "marketplace_purchase", "member", "membership", "merge_group", "meta", "milestone",
    "org_block", "organization", "organization_custom_property", "package", "page_build",
    "personal_access_token_request", "ping", "project", "project_card", "project_column", "projects_v2",
    "projects_v2_item", "projects_v2_status_update", "public", "pull_request", "pull_request_review",
    "pull_request_review_comment", "pull_request_review_thread", "registry_package", "release", "repository",
    "repository_advisory", "repository_dispatch", "repository_import", "repository_ruleset",
    "repository_vulnerability_alert", "secret_scanning_alert", "secret_scanning_alert_location",
    "secret_scanning_scan", "security_advisory", "security_and_analysis", "sponsorship", "star", "status",
    "sub_issues", "team", "team_add", "watch", "workflow_dispatch", "workflow_job", "workflow_run",
];
