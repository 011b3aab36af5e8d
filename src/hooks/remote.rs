//! Reads `deploy.remote`: where a repository is fetched from.
//!
//! Invariant: what passes here is what a fetch takes, without a password in it.

use crate::{
    hooks::read::{Check, Field},
    model::remote::{BadRemote, WrittenRemote},
};

const FORMS: &str =
    "write `https://host/path`, `ssh://user@host/path`, `user@host:path`, `file:///path` or an absolute path";
const NO_DASH: &str = "a user, host or path that begins with `-` would be taken for an option";
const NO_PASSWORD: &str =
    "no user or password in an https URL: write `credentials: {token: SECRET, username: NAME}` under `deploy`";

/// The remote. One that may hold a password is not repeated in the message.
pub(super) fn read(field: &Field, check: &mut Check) -> Option<WrittenRemote> {
    let text = field.text(check)?;
    judge(text)
        .map_err(|help| {
            if text.contains('@') {
                check.hide(field.place());
            }
            field.refuse(check, "bad-remote", "is not a remote that can be fetched from", help);
        })
        .ok()
}

/// The error says what would have been right.
fn judge(text: &str) -> Result<WrittenRemote, &'static str> {
    let remote = WrittenRemote::parse(text).map_err(help)?;
    if remote.parts().login().is_some() { Err(NO_PASSWORD) } else { Ok(remote) }
}

fn help(flaw: BadRemote) -> &'static str {
    match flaw {
        BadRemote::GitScheme => "`git://` proves nothing and hides nothing: use https or ssh",
        BadRemote::Space => "no spaces: write them as `%20` in a URL",
        BadRemote::SshPassword => "no password in an ssh remote: use `credentials: {ssh_key: path}` under `deploy`",
        BadRemote::Option => NO_DASH,
        BadRemote::Unprintable
        | BadRemote::UnknownScheme
        | BadRemote::NoForm
        | BadRemote::BadUrl
        | BadRemote::Query
        | BadRemote::NotUtf8
        | BadRemote::BadPort
        | BadRemote::NoPlainName
        | BadRemote::NoPath
        | BadRemote::RelativePath => FORMS,
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMS, NO_DASH, NO_PASSWORD, judge};

    #[test]
    fn the_forms_that_a_fetch_takes_pass() {
        for remote in [
            "https://github.com/acme/site.git",
            "HTTPS://git.example.org:8443/a/b",
            "http://127.0.0.1:3000/a.git",
            "http://[::1]:3000/a.git",
            "http://git.example.org/a.git",
            "ssh://git@git.example.org:2222/a/b.git",
            "git+ssh://git@git.example.org/a/b.git",
            "git@github.com:acme/site.git",
            "example:repos/site.git",
            "file:///srv/git/site.git",
            "file://localhost/srv/git/site.git",
            "/srv/git/site.git",
        ] {
            assert_eq!(judge(remote).map(|it| it.to_string()), Ok(remote.to_owned()));
        }
    }

    #[test]
    fn a_remote_that_could_run_something_or_shows_a_password_is_refused_with_what_would_be_right() {
        for (remote, help) in [
            ("ext::sh -c touch% /tmp/x", FORMS),
            ("ext::sh", FORMS),
            ("fd::7", FORMS),
            ("-oProxyCommand=x:a", NO_DASH),
            ("ssh://-oProxyCommand=x/a", NO_DASH),
            ("ssh://git@-oProxyCommand=x/a", NO_DASH),
            ("git@-oProxyCommand=x:a", NO_DASH),
            ("-l@host:a", NO_DASH),
            ("git@host:-a", NO_DASH),
            ("https://-x/a", NO_DASH),
            ("https://u:p@github.com/a/b", NO_PASSWORD),
            ("https://token@github.com/a/b", NO_PASSWORD),
            ("ssh://git:pw@host/a", "no password in an ssh remote: use `credentials: {ssh_key: path}` under `deploy`"),
            ("git://github.com/a/b", "`git://` proves nothing and hides nothing: use https or ssh"),
            ("ftp://host/a", FORMS),
            ("file://host/a", FORMS),
            ("file://", FORMS),
            ("https://github.com", FORMS),
            ("https:///", FORMS),
            ("ssh://host", FORMS),
            ("host:", FORMS),
            ("../relative", FORMS),
            ("relative/path", FORMS),
            ("site.git", FORMS),
            ("https://h/a b", "no spaces: write them as `%20` in a URL"),
            ("https://h/a\nb", FORMS),
            ("ssh://a;b@host/x", FORMS),
        ] {
            assert_eq!(judge(remote).err(), Some(help), "{remote}");
        }
    }
}
