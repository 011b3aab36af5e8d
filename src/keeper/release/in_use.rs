//! Which releases some process still works in: its working folder, its program, or a library it has loaded.
//!
//! Looked at by the keeper, not by a child: what the processes of other users do is for its user to see, if for anyone.
//!
//! Invariant: nothing is opened but files of `/proc`; what cannot be seen is left out.

use std::{collections::BTreeSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use memchr::memmem::Finder;

use crate::model::release::ReleaseName;

/// The releases in this folder that a process works in.
pub fn in_use(releases: &Path) -> BTreeSet<ReleaseName> {
    let Ok(releases) = releases.canonicalize() else { return BTreeSet::new() };
    let mut prefix = releases.into_os_string();
    prefix.push("/");
    let finder = Finder::new(prefix.as_bytes());
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let folder = entry.path();
        for link in ["cwd", "exe"] {
            if let Ok(path) = fs::read_link(folder.join(link)) {
                note(&finder, path.as_os_str().as_bytes(), &mut found);
            }
        }
        if let Ok(maps) = fs::read(folder.join("maps")) {
            note(&finder, &maps, &mut found);
        }
    }
    found
}

/// Notes each release whose tree is named in the text.
fn note(finder: &Finder, text: &[u8], found: &mut BTreeSet<ReleaseName>) {
    for at in finder.find_iter(text) {
        let rest = &text[at + finder.needle().len()..];
        let end = rest.iter().position(|it| b"/ \n".contains(it)).unwrap_or(rest.len());
        found.extend(OsStr::from_bytes(&rest[..end]).to_str().and_then(ReleaseName::parse));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::in_use;

    #[test]
    fn a_release_that_is_a_processs_working_folder_is_in_use_until_the_process_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["one-r1", "two-r2"] {
            fs::create_dir_all(folder.path().join(name).join("inner")).expect("made");
        }
        let mut process = Command::new("cat");
        process.current_dir(folder.path().join("one-r1/inner")).stdin(std::process::Stdio::piped());
        let mut process = process.spawn().expect("started");
        let names: Vec<String> = in_use(folder.path()).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["one-r1"]);
        drop(process.stdin.take());
        process.wait().expect("ended");
        assert!(in_use(folder.path()).is_empty());
    }
}
