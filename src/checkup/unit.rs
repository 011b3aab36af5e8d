//! The systemd unit that runs the daemon, as far as there is one.
//!
//! Invariant: systemd is only asked, and where it does not answer there is no unit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use super::Finding;
use crate::model::{hook::Hook, name::HookName};

const SUBJECT: &str = "systemd";

/// What the packaged unit is called.
const PACKAGED: &str = "landfall.service";

const PROPERTIES: &str = "LoadState,KillMode,Delegate,OOMPolicy,NoNewPrivileges,StateDirectory,ExecStart";

/// A unit that systemd has loaded.
#[derive(Clone, Debug)]
pub struct Unit {
    name: String,
    properties: BTreeMap<String, String>,
}

impl Unit {
    /// The unit that this process belongs to, if it is a service, else the packaged one; `None`: systemd has neither.
    pub fn find(daemon: Option<u32>) -> Option<Self> {
        let own = daemon.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        let name = own.as_deref().and_then(service_in).unwrap_or(PACKAGED).to_owned();
        let mut command = Command::new("systemctl");
        command.args(["show", &name, "--property", PROPERTIES]).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|it| it.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let pairs = text.lines().filter_map(|it| it.split_once('='));
        let properties: BTreeMap<String, String> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        let unit = Self { name, properties };
        (unit.property("LoadState") == Some("loaded")).then_some(unit)
    }

    /// Where systemd keeps the state of the service, if the service follows this hooks.yaml.
    pub fn state_of(&self, file: &Path) -> Option<PathBuf> {
        let file = file.canonicalize().ok()?;
        let follows = self.property("ExecStart").is_some_and(|it| it.contains(&*file.to_string_lossy()));
        let folder = self.property("StateDirectory")?.split_ascii_whitespace().next()?;
        follows.then(|| Path::new("/var/lib").join(folder))
    }

    fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }
}

/// The last service in the path of a control group: `0::/system.slice/landfall.service`.
fn service_in(groups: &str) -> Option<&str> {
    let components = groups.lines().filter_map(|it| it.splitn(3, ':').nth(2)).flat_map(|it| it.rsplit('/'));
    components.into_iter().find(|it| it.ends_with(".service"))
}

/// What the unit must say for deploys to survive a stop, and for one script not to take down the rest; and what it keeps
/// steps from.
pub(super) fn look(unit: &Unit, hooks: Option<&BTreeMap<HookName, Arc<Hook>>>) -> Vec<Finding> {
    let name = &unit.name;
    let is = |property: &str, value: &str| unit.property(property).unwrap_or_default() == value;
    let said = |property: &str| format!("{name} has `{property}={}`", unit.property(property).unwrap_or_default());
    let help = |setting: &str| format!("write `{setting}` under [Service] (`systemctl edit {name}`)");
    let mut findings = Vec::new();
    if !is("KillMode", "process") {
        let message = format!("{}: a stop or restart of the daemon ends the deploys under way", said("KillMode"));
        findings.push(Finding::fail(SUBJECT, message, help("KillMode=process")));
    }
    if !is("Delegate", "yes") {
        let message = format!("{}: runs get no control group of their own", said("Delegate"));
        findings.push(Finding::warn(SUBJECT, message, help("Delegate=yes")));
    }
    if !is("OOMPolicy", "continue") {
        let message = format!("{}: a script that eats all memory takes the daemon with it", said("OOMPolicy"));
        findings.push(Finding::warn(SUBJECT, message, help("OOMPolicy=continue")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, format!("{name} leaves deploys under way alone at a stop, and runs apart")));
    }
    if is("NoNewPrivileges", "yes") {
        findings.push(without_sudo(name, hooks.into_iter().flat_map(|it| it.values())));
    }
    findings
}

/// A program that gains rights by its file starts without them.
fn without_sudo<'a>(unit: &str, hooks: impl Iterator<Item = &'a Arc<Hook>>) -> Finding {
    let says_sudo =
        |text: &str| text.split(|it: char| !it.is_ascii_alphanumeric()).any(|it| it == "sudo" || it == "doas");
    let uses_sudo = |hook: &&Arc<Hook>| hook.steps().any(|it| says_sudo(&it.script));
    let using: Vec<String> = hooks.filter(uses_sudo).map(|it| format!("`{}`", it.name)).collect();
    let message =
        format!("{unit} has `NoNewPrivileges=yes`: steps have no sudo, nor any other program that gains rights");
    match using.as_slice() {
        [] => Finding::ok(SUBJECT, message),
        using => {
            let help = "take landfall.service, whose steps may use sudo, or let the service manager do what it was for";
            Finding::fail(SUBJECT, format!("{message}, and steps of {} use it", using.join(", ")), help)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::service_in;

    #[test]
    fn the_service_of_a_process_is_read_off_its_control_group() {
        assert_eq!(service_in("0::/system.slice/deploys.service\n"), Some("deploys.service"));
        let nested = "3:memory:/\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/landfall.service\n";
        assert_eq!(service_in(nested), Some("landfall.service"));
        assert_eq!(service_in("0::/user.slice/session-3.scope\n"), None);
    }
}
