//! Reads GitLab's deliveries: pushes of branches and tags, from projects, groups and system hooks, and all the events
//! that deploy nothing.
//!
//! Invariant: header, kind and ref of a push agree; where they do not, it is refused.

use std::time::Duration;

use hyper::HeaderMap;
use serde::Deserialize;

use crate::{
    forge::{
        Admitted, DedupeKey, Envelope, Proven, Rejection, VerifiedPush,
        facts::{self, Place},
        headers,
        payload::{self, List, Object, Scalar},
        signature::SIGNED_ID,
    },
    model::{
        push::{CommitFacts, CommitId, Push, RefChange, RefName},
        remote::plain_host,
        source::Forge,
    },
};

const EVENT: &str = "X-Gitlab-Event";
/// Where the GitLab is that sends it, as it calls itself.
const INSTANCE: &str = "X-Gitlab-Instance";
/// GitLab 17.4 and later; the same as [`SIGNED_ID`] where both are sent. `X-Gitlab-Event-UUID` is no substitute: hooks
/// that set off hooks share it. Nor is `X-Gitlab-Webhook-UUID`: it differs for each attempt.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Equal bodies are honest at GitLab (A to B, back, and to B again), so without an id only a quick repetition counts,
/// and only if no other push of the ref came in between.
const SAME_BODY_WITHIN: Duration = Duration::from_secs(60 * 60);

/// Reads what a proven request to a GitLab source is about.
pub(super) fn admit(proven: &Proven, headers: &HeaderMap) -> (Envelope, Result<Admitted, Rejection>) {
    let event = headers::event(headers, EVENT);
    let id = delivery_id(headers);
    let dedupe = match &id {
        Ok(Some(id)) => vec![DedupeKey::Id(id.clone())],
        Ok(None) => vec![DedupeKey::BodyWithin(proven.body_hash(), SAME_BODY_WITHIN)],
        Err(_) => Vec::new(),
    };
    let envelope = Envelope { event: event.clone().ok(), delivery_id: id.clone().ok().flatten(), dedupe };
    let verdict = event.and_then(|event| id.and_then(|_| judge(&event, proven.body())));
    let from = |admitted| match admitted {
        Admitted::Push(push) => Admitted::Push(VerifiedPush { instance: instance(headers), ..push }),
        other @ (Admitted::Ping(_) | Admitted::Other { .. }) => other,
    };
    (envelope, verdict.map(from))
}

/// The host that a GitLab says it is. One that is no host is none.
fn instance(headers: &HeaderMap) -> Option<String> {
    let url = headers.get(INSTANCE)?.to_str().ok()?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let place = rest.split('/').next()?;
    let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
    plain_host(if port.bytes().all(|it| it.is_ascii_digit()) { host } else { place })
}

fn delivery_id(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let signed = headers::delivery_id(headers, SIGNED_ID)?;
    let key = headers::delivery_id(headers, IDEMPOTENCY_KEY)?;
    Ok(signed.or(key))
}

/// What kind of ref a push is about.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Branch,
    Tag,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "push" => Some(Self::Branch),
            "tag_push" => Some(Self::Tag),
            _ => None,
        }
    }
}

fn judge(event: &str, json: &[u8]) -> Result<Admitted, Rejection> {
    let core = payload::read::<Core>(json)?;
    let kind = core.kind().map(|word| Kind::parse(word).ok_or(word));
    let other = || Ok(Admitted::Other { reason: format!("event `{event}` is not one that deploys") });
    let expected = match event {
        "Push Hook" => Kind::Branch,
        "Tag Push Hook" => Kind::Tag,
        "System Hook" => match kind {
            Some(Ok(kind)) => kind,
            Some(Err(_)) | None => return other(),
        },
        _ if core.is_push() && EVENTS.contains(&event) => {
            return Err(Rejection::EventMismatch(format!("the event is `{event}`, and the body is a push")));
        }
        _ => return other(),
    };
    match kind {
        Some(found) if found != Ok(expected) => {
            Err(Rejection::EventMismatch(format!("the event is `{event}`, and the body is of another kind")))
        }
        Some(_) | None => read_push(event, expected, &core, json),
    }
}

fn read_push(event: &str, kind: Kind, core: &Core, json: &[u8]) -> Result<Admitted, Rejection> {
    let place = facts::place(&core.ref_name)?;
    let before = facts::commit("before", &core.before)?;
    let after = facts::commit("after", &core.after)?;
    let checkout = match &core.checkout_sha {
        Scalar::Absent | Scalar::Other => None,
        given @ (Scalar::Text(_) | Scalar::Number(_) | Scalar::Flag(_)) => facts::commit("checkout_sha", given)?,
    };
    let project = core.project.get();
    let repo = facts::repo("project.path_with_namespace", project.map(|it| &it.path_with_namespace))?;
    let (ref_name, commit) = match (kind, place) {
        (Kind::Branch, Place::Deployable(it @ RefName::Branch(_))) => (it, after),
        // `after` of an annotated tag is the tag itself, and `checkout_sha` the commit that it names.
        (Kind::Tag, Place::Deployable(it @ RefName::Tag(_))) => (it, after.map(|tag| checkout.unwrap_or(tag))),
        (Kind::Branch | Kind::Tag, Place::Deployable(_)) => {
            let mismatch = format!("the event is `{event}`, and the ref is of another kind");
            return Err(Rejection::EventMismatch(mismatch));
        }
        (Kind::Branch | Kind::Tag, Place::Elsewhere) => {
            return Ok(Admitted::Other { reason: "the ref is neither a branch nor a tag".into() });
        }
    };
    let facts = payload::read_optional::<Facts>(json)?;
    let change = facts::change(commit);
    let push = Box::new(Push {
        forge: Forge::GitLab,
        default_branch: project.and_then(|it| facts::default_branch(&it.default_branch)),
        actor: facts.actor(),
        compare_url: facts.compare_url(&ref_name, before.as_ref(), &change),
        commit_count: facts.total_commits_count.number().or(facts.commits.count),
        head: facts.head(&change),
        repo,
        ref_name,
        change,
        before,
    });
    let repository = project.and_then(|it| it.id.number());
    Ok(Admitted::Push(VerifiedPush { push, repository, instance: None }))
}

/// What can refuse a push, or changes where it goes.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Core {
    object_kind: Scalar,
    event_name: Scalar,
    #[serde(rename = "ref")]
    ref_name: Scalar,
    before: Scalar,
    after: Scalar,
    checkout_sha: Scalar,
    project: Object<Project>,
}

impl Core {
    /// The kind the body says it is of; system hooks have no `object_kind`.
    fn kind(&self) -> Option<&str> {
        self.object_kind.text().or(self.event_name.text())
    }

    fn is_push(&self) -> bool {
        match self.kind() {
            Some(word) => Kind::parse(word).is_some(),
            None => [&self.ref_name, &self.before, &self.after].iter().all(|it| it.text().is_some()),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Project {
    id: Scalar,
    path_with_namespace: Scalar,
    default_branch: Scalar,
}

/// What people like to know.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Facts {
    user_username: Scalar,
    user_name: Scalar,
    total_commits_count: Scalar,
    commits: List<Commit>,
    project: Object<Page>,
}

impl Facts {
    fn actor(&self) -> String {
        facts::line(&self.user_username).or_else(|| facts::line(&self.user_name)).unwrap_or_default()
    }

    /// GitLab names no such page; this is where it lives.
    fn compare_url(&self, ref_name: &RefName, before: Option<&CommitId>, change: &RefChange) -> Option<String> {
        match (ref_name, before, change) {
            (RefName::Branch(_), Some(before), RefChange::Moved(after)) => {
                let project = self.project.get()?.web_url.text()?;
                facts::url(&format!("{}/-/compare/{before}...{after}", project.trim_end_matches('/')))
            }
            (RefName::Branch(_) | RefName::Tag(_), _, RefChange::Moved(_) | RefChange::Deleted) => None,
        }
    }

    /// The newest commit of the list, which comes last, if it is the one that the ref points at.
    fn head(&self, change: &RefChange) -> Option<CommitFacts> {
        let RefChange::Moved(commit) = change else { return None };
        let newest = self.commits.last.get()?;
        let author = newest.author.get();
        (CommitId::parse(newest.id.text()?)? == *commit)
            .then(|| facts::commit_facts(&newest.message, author.map(|it| &it.name), author.map(|it| &it.email)))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Page {
    web_url: Scalar,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Commit {
    id: Scalar,
    message: Scalar,
    author: Object<Person>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Person {
    name: Scalar,
    email: Scalar,
}

/// Every event but those that may be a push. <https://docs.gitlab.com/user/project/integrations/webhook_events/>
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "Issue Hook", "Confidential Issue Hook", "Work Item Hook", "Note Hook", "Confidential Note Hook",
    "Merge Request Hook", "Wiki Page Hook", "Pipeline Hook", "Job Hook", "Build Hook", "Deployment Hook",
    "Member Hook", "Project Hook", "Subgroup Hook", "Feature Flag Hook", "Release Hook", "Milestone Hook",
    "Emoji Hook", "Resource Access Token Hook", "Vulnerability Hook", "Service Hook",
];
