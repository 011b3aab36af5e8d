//! What people can rely on whose mail server shows a certificate of their own authority, and what befalls a letter
//! that we cannot write.
//!
//! Invariant: the environment that such a test needs is that of a process of its own, started by the test.

use std::{env, fs, path::Path, process::Command, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::house::{House, failed};
use crate::world::mailroom::{Cover, Inbox};

/// Names the folder of certificates in the process that a test starts.
const FOLDER: &str = "TELLING_FOLDER";

/// Runs one of the tests below again, in a process with this environment.
fn again(test: &str, variables: &[(&str, &Path)]) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", &format!("telling::covered::{test}"), "--nocapture"]);
    command.envs(variables.iter().copied());
    let output = command.output().expect("a process");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Writes `ca.pem`, and `server.pem` and `server.key` for 127.0.0.1.
fn make_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let server = server.signed_by(&key, &authority).expect("a certificate");
    fs::write(folder.join("ca.pem"), authority.pem()).expect("a file");
    fs::write(folder.join("server.pem"), server.pem()).expect("a file");
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("a file");
}

fn server_config(folder: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("a pair"))
}

/// Sends one letter to a covered server, and gives why it was not taken.
async fn send(cover: Cover, tls: &str) -> Result<(), String> {
    let mut inbox = Inbox::smtp(cover).await;
    let login = "username: deploys, password: {env: PASSWORD}";
    let rest = format!("smtp: {{host: 127.0.0.1, port: {}, tls: {tls}, from: a@example.org, {login}}}", inbox.port);
    let mut house = House::new("{email: ops@example.org}", &rest);
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    match house.letters(run).await.remove(0).1 {
        landfall::store::LetterState::Sent { .. } => {
            let mail = inbox.next().await;
            assert!(mail.is_covered && mail.login.as_deref() == Some("deploys hunter2-hunter2"), "{mail:?}");
            Ok(())
        }
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn a_relay_behind_a_private_authority_is_trusted_through_ssl_cert_file() {
    let Some(folder) = env::var_os(FOLDER) else {
        let folder = tempfile::tempdir().expect("a folder");
        make_certificates(folder.path());
        let (ca, nowhere) = (folder.path().join("ca.pem"), folder.path().join("nowhere"));
        let variables = [(FOLDER, folder.path()), ("SSL_CERT_FILE", &ca), ("SSL_CERT_DIR", &nowhere)];
        return again("a_relay_behind_a_private_authority_is_trusted_through_ssl_cert_file", &variables);
    };
    let config = server_config(Path::new(&folder));
    assert_eq!(send(Cover::Starttls(Arc::clone(&config)), "starttls").await, Ok(()));
    assert_eq!(send(Cover::Tls(config), "tls").await, Ok(()));
}

#[tokio::test]
async fn a_relay_with_a_certificate_of_an_unknown_authority_gets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(folder.path());
    let config = server_config(folder.path());
    for (cover, tls) in [(Cover::Starttls(Arc::clone(&config)), "starttls"), (Cover::Tls(config), "tls")] {
        let why = send(cover, tls).await.expect_err("not sent");
        assert!(why.starts_with("Owed") && why.contains("UnknownIssuer"), "{why}");
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_letter_that_cannot_be_written_is_given_up_and_not_tried_for_ever() {
    if env::var_os("FAILPOINTS").is_none() {
        let panics = [("FAILPOINTS", Path::new("notify-before-writing=panic"))];
        return again("a_letter_that_cannot_be_written_is_given_up_and_not_tried_for_ever", &panics);
    }
    let scenario = fail::FailScenario::setup();
    let mut house = House::new("{slack: {env: SLACK}}", "");
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    assert!(house.why_never(run).await.contains("panicked"));
    house.be_silent().await;
    scenario.teardown();
}
