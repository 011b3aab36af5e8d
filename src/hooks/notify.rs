//! Reads whom to tell, and the accounts that it takes: `notify` and `smtp`.
//!
//! Invariant: every address has the shape of one, and a Slack webhook's value is a URL.

use crate::{
    hooks::{
        keys,
        read::{Check, Field},
        secrets, units,
        yaml::{Place, Value},
    },
    model::{
        letter::{Channel, Notification, Occasion},
        remote::is_loopback,
        secret::SecretRef,
    },
};

/// The account that e-mail is sent by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// The server's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// The name to log in with; `None`: no login.
    pub username: Option<String>,
    /// The password that goes with it; there is one exactly if there is a name.
    pub password: Option<SecretRef>,
    /// The sender's address, perhaps with a name: `Deploys <deploys@example.org>`.
    pub from: String,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// It begins in plain text and must change to TLS before anything is said.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Not at all.
    None,
}

/// What `notify` says, and where it first asks for e-mail.
pub(super) struct Told {
    pub(super) notify: Vec<Notification>,
    pub(super) email_place: Option<Place>,
}

/// `notify`: one entry or a list of them.
pub(super) fn read(field: &Field, check: &mut Check) -> Option<Told> {
    let entries = field.each(check, entry)?;
    let email_place = entries.iter().find_map(|(_, place)| *place);
    Some(Told { notify: entries.into_iter().map(|(it, _)| it).collect(), email_place })
}

fn entry(field: &Field, check: &mut Check) -> Option<(Notification, Option<Place>)> {
    if let Value::Text(text) = &field.node.value {
        let help = match mailbox(text) {
            Ok(address) => format!("write `{{email: {address}}}`"),
            // What else it is may be a secret.
            Err(_) => "write `{email: ops@example.org}` or `{slack: {env: SLACK_WEBHOOK_URL}}`".to_owned(),
        };
        if text.contains("://") {
            check.hide(field.place());
        }
        field.refuse(check, "wrong-type", "says whom to tell, and not how", help);
        return None;
    }
    let section = field.section(check, keys::NOTIFICATION)?;
    let on = section.read("on", check, vec![Occasion::Failure, Occasion::Recovery], occasions);
    match (section.get("slack"), section.get("email")) {
        (Some(slack), None) => Some((Notification { channel: slack_channel(slack, check)?, on }, None)),
        (None, Some(email)) => {
            let to = email.each(check, |it, check| it.parsed(check, "bad-address", mailbox))?;
            if to.is_empty() && email.items(check)?.is_empty() {
                email.refuse(check, "empty-list", "is an empty list", "name at least one address");
            }
            Some((Notification { channel: Channel::Email { to }, on }, Some(email.key_place)))
        }
        (Some(_), Some(_)) | (None, None) => {
            let help = "write exactly one of `slack`, `email`; several ways are a list";
            field.refuse(check, "bad-notification", "must name one way to tell people", help);
            None
        }
    }
}

fn occasions(field: &Field, check: &mut Check) -> Option<Vec<Occasion>> {
    let mut choices: Vec<(&str, &[Occasion])> = vec![("all", &Occasion::ALL)];
    choices.extend(Occasion::ALL.iter().map(|it| (it.word(), std::slice::from_ref(it))));
    let lists = field.each(check, |it, check| it.choice(check, &choices))?;
    if field.items(check)?.is_empty() {
        field.refuse(check, "empty-list", "is an empty list", "remove the entry, or say what people want to hear of");
    }
    let mut occasions = Vec::new();
    for occasion in lists.into_iter().flatten() {
        if !occasions.contains(occasion) {
            occasions.push(*occasion);
        }
    }
    Some(occasions)
}

fn slack_channel(field: &Field, check: &mut Check) -> Option<Channel> {
    if let Value::Text(text) = &field.node.value
        && text.starts_with(['#', '@'])
    {
        let help = "name an incoming webhook: `slack: {env: SLACK_WEBHOOK_URL}`";
        let message = format!("`{}` is a channel, which is not supported by this version", field.path);
        check.error(field.key_place, "not-supported", message, help);
        return None;
    }
    let found = secrets::one(field, check)?;
    if !secrets::fits(&found, check, |it| units::base_url(it).is_ok()) {
        let help =
            "the secret is the URL that Slack gives for an incoming webhook: `https://hooks.slack.com/services/...`";
        field.refuse(check, "bad-url", "does not lead to a URL", help);
        return None;
    }
    Some(Channel::Slack { webhook: found.origin })
}

/// `local@domain`. What else a mail server wants of an address, it says itself.
fn mailbox(text: &str) -> Result<String, &'static str> {
    const HELP: &str = "write it like `ops@example.org`";
    let (local, domain) = text.rsplit_once('@').ok_or(HELP)?;
    let is_fine = |it: char| it.is_ascii_graphic() && !"<>()[],;:\\\"".contains(it);
    let labels_are_fine = domain.split('.').all(|it| !it.is_empty() && !it.starts_with('-'));
    let is_mailbox = !local.is_empty() && local.len() <= 64 && !local.contains('@') && text.chars().all(is_fine);
    if is_mailbox && labels_are_fine && domain.len() <= 253 { Ok(text.to_owned()) } else { Err(HELP) }
}

/// A mailbox, perhaps with a name before it.
fn sender(text: &str) -> Result<String, &'static str> {
    const HELP: &str = "write it like `Deploys <deploys@example.org>` or `deploys@example.org`";
    if text.chars().any(char::is_control) {
        return Err(HELP);
    }
    match text.trim().strip_suffix('>').and_then(|it| it.split_once('<')) {
        Some((name, address)) if !name.contains(['<', '>']) => mailbox(address).map_err(|_| HELP)?,
        Some(_) => return Err(HELP),
        None => mailbox(text.trim()).map_err(|_| HELP)?,
    };
    Ok(text.trim().to_owned())
}

/// `smtp`.
pub(super) fn read_smtp(field: &Field, check: &mut Check) -> Option<Smtp> {
    let section = field.section(check, keys::SMTP)?;
    for (key, help) in
        [("host", "the mail server: `host: mail.example.org`"), ("from", "the sender: `from: deploys@example.org`")]
    {
        if section.get(key).is_none() {
            section.miss(check, &format!("`{key}`"), help);
        }
    }
    let words = [("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)];
    let tls = section.read("tls", check, SmtpTls::Starttls, |it, check| it.choice(check, &words));
    let port_default = match tls {
        SmtpTls::Starttls => 587,
        SmtpTls::Tls => 465,
        SmtpTls::None => 25,
    };
    let port = section.read("port", check, port_default, |it, check| {
        it.number(check, 1..=65_535).and_then(|it| u16::try_from(it).ok())
    });
    let host = section.get("host").and_then(|it| it.parsed(check, "bad-address", host));
    let from = section.get("from").and_then(|it| it.parsed(check, "bad-address", sender));
    let username = section.get("username").map(|it| it.text(check).map(str::to_owned));
    let password = section.get("password").map(|it| secrets::one_reference(it, check));
    if username.is_some() != password.is_some() {
        section.miss(check, "`username` or no `password`", "they go together: write both, or none for no login");
    }
    let host = host?;
    if tls == SmtpTls::None && !is_loopback(&host) {
        let place = section.get("tls").map_or(section.place, |it| it.key_place);
        let message = format!("mail to `{host}` would cross the network in plain text, with any password");
        check.warn(place, "smtp-in-clear", message, "use `tls: starttls` or `tls: tls`");
    }
    let (username, password) = (username.unwrap_or(None), password.unwrap_or(None));
    Some(Smtp { host, port, tls, username, password, from: from? })
}

fn host(text: &str) -> Result<String, &'static str> {
    let is_fine = |it: char| it.is_ascii_alphanumeric() || "._-:[]".contains(it);
    let has_port = text.matches(':').count() == 1;
    if text.chars().all(is_fine) && !text.starts_with('-') && !has_port {
        Ok(text.to_owned())
    } else {
        Err("write the name alone: `mail.example.org`; the port goes to `port`")
    }
}
