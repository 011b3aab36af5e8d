//! Which releases some process still works in: its working folder, its program, or a library it has loaded.
//!
//! Looked at by the keeper, not by a child: what the processes of other users do is for its user to see, if for anyone.
//!
//! Invariant: nothing is opened but files of `/proc`; what cannot be seen is left out. No user's processes can make it read
//! without end: where there is more than is read, every release counts as in use.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use memchr::memmem::Finder;

use crate::model::release::ReleaseName;

/// What is read of the maps of one process. A program with as many as the kernel lets it have by default, most of them
/// without a file, has a third of it.
const MAPS_BYTES_MAX: u64 = 16 << 20;

/// What is read of the maps of all processes together.
const ALL_BYTES_MAX: u64 = 512 << 20;

/// The releases in this folder that a process works in. Where it cannot be told, these are all of them.
pub fn in_use(releases: &Path) -> BTreeSet<ReleaseName> {
    let Ok(releases) = releases.canonicalize() else { return BTreeSet::new() };
    let mut left_bytes = ALL_BYTES_MAX;
    let mut prefix = releases.clone().into_os_string();
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
        let Ok(maps) = File::open(folder.join("maps")) else { continue };
        // Of a process that has just ended nothing more is read.
        let is_whole = note_maps(&finder, maps, &mut left_bytes, &mut found).unwrap_or(true);
        if !is_whole {
            return all_in(&releases);
        }
    }
    found
}

fn all_in(releases: &Path) -> BTreeSet<ReleaseName> {
    let entries = fs::read_dir(releases).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str().and_then(ReleaseName::parse)).collect()
}

/// Notes the releases that are named in the maps of a process, line by line. Returns whether these are all of its maps.
fn note_maps(
    finder: &Finder,
    maps: impl Read,
    left_bytes: &mut u64,
    found: &mut BTreeSet<ReleaseName>,
) -> io::Result<bool> {
    let allowed = MAPS_BYTES_MAX.min(*left_bytes);
    let mut reader = BufReader::new(maps.take(allowed));
    let mut line = Vec::new();
    let mut bytes = 0;
    while reader.read_until(b'\n', &mut line)? > 0 {
        note(finder, &line, found);
        bytes += line.len() as u64;
        line.clear();
    }
    *left_bytes -= bytes;
    Ok(bytes < allowed)
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
    use std::{
        collections::BTreeSet,
        fs,
        io::{self, Read},
        process::Command,
    };

    use memchr::memmem::Finder;

    use super::{ALL_BYTES_MAX, MAPS_BYTES_MAX, all_in, in_use, note_maps};

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

    #[test]
    fn maps_without_end_are_read_only_so_far_and_then_every_release_counts_as_in_use() {
        let (finder, mut found) = (Finder::new(b"/srv/releases/"), BTreeSet::new());
        let line = b"7f00-7f10 r-xp 00000000 08:01 42   /srv/releases/one-r1/lib.so (deleted)\n";
        let mut left_bytes = ALL_BYTES_MAX;
        let whole = note_maps(&finder, &line[..], &mut left_bytes, &mut found).expect("read");
        assert!(whole && left_bytes == ALL_BYTES_MAX - line.len() as u64);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["one-r1"]);
        for endless in [b'x', b'\n'] {
            let maps = (&line[..]).chain(io::repeat(endless));
            let mut left_bytes = ALL_BYTES_MAX;
            assert!(!note_maps(&finder, maps, &mut left_bytes, &mut found).expect("read"));
            assert_eq!(left_bytes, ALL_BYTES_MAX - MAPS_BYTES_MAX);
        }
        assert!(!note_maps(&finder, &line[..], &mut 10, &mut found).expect("read"), "others have taken the rest");

        let folder = tempfile::tempdir().expect("a folder");
        for name in ["one-r1", "two-r2", ".staging-r3"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        assert_eq!(all_in(folder.path()).iter().map(ToString::to_string).collect::<Vec<_>>(), ["one-r1", "two-r2"]);
    }
}
