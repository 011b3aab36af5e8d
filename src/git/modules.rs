//! Reads `.gitmodules`: name, path and URL of each repository within.
//!
//! Invariant: nothing but these three is taken from it, and whether one is left out.

use super::config::settings;

/// What `.gitmodules` says of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) url: Vec<u8>,
    /// Whether it says `update = none`: it is not to be checked out.
    pub(super) is_left_out: bool,
}

/// Reads the file.
pub(super) fn parse(text: &[u8]) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for setting in settings(text).into_iter().filter(|it| it.section == b"submodule") {
        let at = modules.iter().position(|it| it.name == setting.subsection).unwrap_or_else(|| {
            modules.push(Module { name: setting.subsection.clone(), ..Module::default() });
            modules.len() - 1
        });
        let value = setting.value;
        match setting.key.as_slice() {
            b"path" => modules[at].path = value.strip_suffix(b"/").unwrap_or(&value).to_vec(),
            b"url" => modules[at].url = value,
            b"update" => modules[at].is_left_out = value == b"none",
            _ => (),
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_paths_and_urls_are_read_as_git_writes_them() {
        let text = "# comment\n[submodule \"a \\\"b\"]\n\tpath = lib/a ; comment\n\tURL = \"../a #1.git\"\n\
                    [core]\n\turl = no\n[submodule \"c\"]\nupdate = !touch x\npath=c/\nurl = ht\\\ntps://example.org/c\n";
        let modules = parse(text.as_bytes());
        let shown: Vec<_> = modules
            .iter()
            .map(|it| [&it.name, &it.path, &it.url].map(|it| String::from_utf8_lossy(it).into_owned()))
            .collect();
        assert_eq!(shown, [["a \"b", "lib/a", "../a #1.git"], ["c", "c", "https://example.org/c"]]);
    }
}
