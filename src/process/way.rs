//! The way to a folder: who could put something else in its place, and as whom one may work there.
//!
//! Invariant: the way is looked at from the root on, each link for itself. Where nobody but root could change it, it is
//! still the same when it is taken.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User};

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The way to a folder, as far as it is there.
#[derive(Clone, Debug)]
pub struct Way {
    /// The folder, or the nearest one above it that is there, without links.
    pub standing: PathBuf,
    /// Whether it is the folder itself.
    pub is_whole: bool,
    /// What is missing below it.
    pub missing: PathBuf,
    /// Whose that is.
    pub owner: u32,
    passed: Vec<Passed>,
}

#[derive(Clone, Debug)]
struct Passed {
    path: PathBuf,
    owner: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Link,
    /// A folder that only its owner may change, or where nobody may change what is another's.
    Closed,
    /// A folder that this group may change, too.
    OfGroup(u32),
    /// A folder that everybody may change.
    Open,
}

/// Looks at the way to a folder.
pub fn look(path: &Path) -> io::Result<Way> {
    let mut ahead: VecDeque<OsString> = path.components().map(|it| it.as_os_str().to_owned()).collect();
    let mut at = PathBuf::from("/");
    let root = fs::symlink_metadata(&at)?;
    let mut passed = vec![Passed { path: at.clone(), owner: root.uid(), what: of_folder(&root) }];
    let (mut links, mut missing) = (0, PathBuf::new());
    while let Some(name) = ahead.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(_)) => {
                let next = at.join(&name);
                let metadata = match fs::symlink_metadata(&next) {
                    Ok(metadata) => metadata,
                    Err(err) if err.kind() == io::ErrorKind::NotFound => {
                        missing = [name].into_iter().chain(ahead).collect();
                        break;
                    }
                    Err(err) => return Err(err),
                };
                let owner = metadata.uid();
                if metadata.is_symlink() {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other(format!("`{}` leads through too many links", path.display())));
                    }
                    for part in fs::read_link(&next)?.components().rev() {
                        ahead.push_front(part.as_os_str().to_owned());
                    }
                    passed.push(Passed { path: next, owner, what: What::Link });
                } else if metadata.is_dir() {
                    passed.push(Passed { path: next.clone(), owner, what: of_folder(&metadata) });
                    at = next;
                } else {
                    return Err(io::Error::other(format!("`{}` is not a folder", next.display())));
                }
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => (),
        }
    }
    let owner = fs::symlink_metadata(&at)?.uid();
    Ok(Way { standing: at, is_whole: missing.as_os_str().is_empty(), missing, owner, passed })
}

impl Way {
    /// Whether the owner of the folder may be relied on to be the only one who can put something else there, besides
    /// root. The error is a sentence.
    ///
    /// A link counts where it is root's or the owner's. Who works as somebody else than root can be led astray only to
    /// where that user could go anyway, so the folders on the way count for root alone.
    pub fn judge(&self) -> Result<(), String> {
        let standing = self.standing.display();
        for Passed { path, owner, what } in &self.passed {
            let shown = path.display();
            let is_theirs = *owner != 0 && *owner != self.owner;
            if *what == What::Link && is_theirs {
                let user = user_name(*owner);
                return Err(format!(
                    "`{shown}` is a link of `{user}`, who can lead it elsewhere, and leads to `{standing}`: give it to \
                     root (`chown -h root {shown}`), or name the folder itself"
                ));
            }
            if self.owner != 0 || *path == self.standing || *what == What::Link {
                continue;
            }
            let Some(who) = who_else(*owner, *what) else { continue };
            let mend = if is_theirs { "chown root" } else { "chmod go-w" };
            return Err(format!(
                "`{shown}` {who}, so something else could take the place of `{standing}`, where root would write: \
                 `{mend} {shown}`, or name the user of this hook with `user:`"
            ));
        }
        Ok(())
    }

    /// Why root makes nothing at the end of the way, as far as the way is below this folder, which is named without links.
    /// The error is a sentence.
    pub fn judge_below(&self, folder: &Path) -> Result<(), String> {
        for Passed { path, owner, what } in &self.passed {
            if !path.starts_with(folder) || path == folder {
                continue;
            }
            let stat =
                fs::symlink_metadata(path).map_err(|err| format!("cannot look at `{}`: {err}", path.display()))?;
            // Everybody may do everything with the mode of a link.
            let mode = if *what == What::Link { 0 } else { stat.mode() };
            roots_alone(path, (*owner, stat.gid(), mode))?;
        }
        Ok(())
    }
}

/// Whether a folder of this owner, group and mode is one that root works in: nobody else may change it, or make anything
/// in it. The error is a sentence.
pub fn roots_alone(folder: &Path, (owner, group, mode): (u32, u32, u32)) -> Result<(), String> {
    // Who may make a link there leads root astray, even where the sticky bit keeps them from removing anything.
    let Some(who) = who_else(owner, of_mode(group, mode & !0o1000)) else { return Ok(()) };
    let shown = folder.display();
    let mend = match owner {
        0 => format!("`chmod go-w {shown}`, or name who works with `user:`"),
        owner => format!("name who works with `user: {}`, or `chown root {shown}`", user_name(owner)),
    };
    Err(format!("`{shown}` {who}, and root writes nothing where another user could lead it astray: {mend}"))
}

/// The first folder or link in a folder, however deep, that somebody else than root may change, and who.
pub fn not_roots_alone(folder: &Path) -> Option<(PathBuf, String)> {
    if let Ok(metadata) = fs::symlink_metadata(folder)
        && let Some(who) = who_else(metadata.uid(), of_folder(&metadata))
    {
        return Some((folder.to_owned(), who));
    }
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            // A file of another's is no way to anywhere.
            if entry.file_type().is_ok_and(|it| it.is_file()) {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
            let what = if metadata.is_dir() { of_folder(&metadata) } else { What::Closed };
            if let Some(who) = who_else(metadata.uid(), what) {
                return Some((entry.path(), who));
            }
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    None
}

/// A user's name; in a container there may be none.
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |it| it.name)
}

/// Who besides root may change it, as a clause.
fn who_else(owner: u32, what: What) -> Option<String> {
    match what {
        _ if owner != 0 => Some(format!("belongs to `{}`", user_name(owner))),
        What::Open => Some("may be changed by everybody".to_owned()),
        What::OfGroup(group) => {
            let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
            Some(format!("may be changed by group `{}`", group.map_or_else(|| "another".to_owned(), |it| it.name)))
        }
        What::Closed | What::Link => None,
    }
}

fn of_folder(metadata: &fs::Metadata) -> What {
    of_mode(metadata.gid(), metadata.mode())
}

fn of_mode(group: u32, mode: u32) -> What {
    match mode {
        // Where the sticky bit is, nobody renames what is another's.
        mode if mode & 0o1000 != 0 => What::Closed,
        mode if mode & 0o002 != 0 => What::Open,
        mode if mode & 0o020 != 0 && group != 0 => What::OfGroup(group),
        _ => What::Closed,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    };

    use super::look;

    #[test]
    fn a_way_leads_through_links_as_far_as_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("there");
        fs::create_dir(real.join("a")).expect("a folder");
        symlink("../x/./a", real.join("a/up")).expect("a link");
        symlink(&real, real.join("x")).expect("a link");
        let way = look(&real.join("a/up")).expect("looked");
        assert_eq!((way.standing, way.is_whole), (real.join("a"), true));
        let way = look(&real.join("x/a/new/deep")).expect("looked");
        assert_eq!((way.standing, way.is_whole, way.missing), (real.join("a"), false, "new/deep".into()));
        symlink("round", real.join("round")).expect("a link");
        assert!(look(&real.join("round")).is_err());
        fs::write(real.join("file"), "").expect("written");
        assert!(look(&real.join("file")).is_err());
    }

    #[test]
    fn as_root_whoever_could_put_something_else_there_is_named() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("there");
        let (above, site) = (real.join("above"), real.join("above/site"));
        fs::create_dir_all(&site).expect("folders");
        let judged = || look(&site).expect("looked").judge();
        let mode = |mode| fs::set_permissions(&above, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(0o775);
        judged().expect("root's own group is root");
        chown(&above, None, Some(65534)).expect("another group");
        assert!(judged().expect_err("refused").contains("may be changed by group `"));
        mode(0o757);
        assert!(judged().expect_err("refused").contains("may be changed by everybody"));
        mode(0o1777);
        judged().expect("nobody renames what is root's there");
        mode(0o755);
        chown(&above, Some(65534), None).expect("given away");
        let refused = judged().expect_err("refused");
        assert!(refused.contains("belongs to `nobody`") && refused.contains("`user:`"), "{refused}");
        chown(&site, Some(65534), None).expect("given away");
        judged().expect("it is all the same user's");

        let link = real.join("link");
        symlink(&site, &link).expect("a link");
        look(&link).expect("looked").judge().expect("root's link is followed");
        lchown(&link, Some(65534), None).expect("given away");
        look(&link).expect("looked").judge().expect("and so is the owner's");
        lchown(&link, Some(1), None).expect("given away");
        assert!(look(&link).expect("looked").judge().expect_err("refused").contains("is a link of `daemon`"));
    }
}
