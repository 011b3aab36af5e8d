//! The way to a folder or file: who could put something else in its place, and as whom one may work there.
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
use rustix::fs::lgetxattr;

use super::shell::path_word;

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
    /// A folder that only its owner may change.
    Closed,
    /// A folder where anybody may make something, and nobody may change what is another's.
    Sticky,
    /// A folder that this group may change, too.
    OfGroup(u32),
    /// A folder that others may change, too, whom its access list names (acl(5)).
    ByList,
    /// A folder that everybody may change.
    Open,
}

/// Looks at the way to a folder.
pub fn look(path: &Path) -> io::Result<Way> {
    take(path, false)
}

/// Looks at the way to a file; what stands at its end, `standing`, is the folder that it is in.
pub fn look_at_file(path: &Path) -> io::Result<Way> {
    take(path, true)
}

fn take(path: &Path, is_to_file: bool) -> io::Result<Way> {
    let mut ahead: VecDeque<OsString> = path.components().map(|it| it.as_os_str().to_owned()).collect();
    let mut at = PathBuf::from("/");
    let root = fs::symlink_metadata(&at)?;
    let mut passed = vec![Passed { path: at.clone(), owner: root.uid(), what: of_folder(&at, &root) }];
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
                    passed.push(Passed { path: next.clone(), owner, what: of_folder(&next, &metadata) });
                    at = next;
                } else if is_to_file && ahead.is_empty() {
                    break;
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
            if self.owner != 0 || *what == What::Link {
                continue;
            }
            let Some(who) = who_else(*owner, *what) else { continue };
            let mend = mend(*owner, *what, path);
            let harm = if *path == self.standing {
                "so root would write where somebody else may put a link in its way".to_owned()
            } else {
                format!("so something else could take the place of `{standing}`, where root would write")
            };
            return Err(format!("`{shown}` {who}, {harm}: {mend}, or name the user of this hook with `user:`"));
        }
        Ok(())
    }

    /// Whether nobody but the owner of the folder and root can have made it, or make another in its place. The error is a
    /// sentence.
    pub fn judge_owner(&self) -> Result<(), String> {
        let mut may_be_anybodys = false;
        for Passed { path, owner, what } in self.passed.iter().filter(|it| it.what != What::Link) {
            let is_open = *path != self.standing && !matches!(what, What::Closed | What::Sticky);
            let is_anothers = *owner != 0 && *owner != self.owner;
            if is_open || is_anothers || (may_be_anybodys && *owner != 0) {
                let (standing, user) = (self.standing.display(), user_name(self.owner));
                return Err(format!(
                    "`{standing}` belongs to `{user}`, and others could have made it: whoever does gets what this hook \
                     does, and its secrets; name the user of this hook with `user:`"
                ));
            }
            may_be_anybodys = *what == What::Sticky;
        }
        Ok(())
    }

    /// Whether nobody but this user and root can change the way, or what stands at its end. The error is a sentence.
    pub fn judge_for(&self, user: Uid, group: Gid) -> Result<(), String> {
        for Passed { path, owner, what } in &self.passed {
            let is_theirs = *owner != 0 && *owner != user.as_raw();
            let is_own_group = *what == What::OfGroup(group.as_raw()) && !user.is_root();
            let who = match *what {
                _ if is_theirs => Some(format!("belongs to `{}`", user_name(*owner))),
                what => who_else(0, what).filter(|_| !is_own_group),
            };
            if let Some(who) = who {
                let mend = mend(if is_theirs { *owner } else { 0 }, *what, path);
                return Err(format!("`{}` {who}: {mend}", path.display()));
            }
        }
        Ok(())
    }

    /// As whom something at the end of the way may be read: whoever else may lead it elsewhere, so that it leads nobody to
    /// what they could not read themselves. The error is a sentence.
    pub fn reader(&self) -> Result<u32, String> {
        let mut reader = 0;
        for Passed { path, owner, what } in &self.passed {
            let shown = path.display();
            let is_own_group = |group: u32| *owner != 0 && primary_group(*owner) == Some(group);
            match what {
                What::OfGroup(group) if is_own_group(*group) => (),
                What::Open | What::ByList | What::OfGroup(_) => {
                    let who = who_else(0, *what).unwrap_or_default();
                    let mend = mend(0, *what, path);
                    return Err(format!("`{shown}` {who}, who could lead it to what root alone may read: {mend}"));
                }
                What::Link | What::Closed | What::Sticky => (),
            }
            if *owner != 0 && reader != 0 && reader != *owner {
                let (one, other) = (user_name(reader), user_name(*owner));
                return Err(format!("the way there is changed by both `{one}` and `{other}`, at `{shown}`"));
            }
            reader = reader.max(*owner);
        }
        Ok(reader)
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
    let what = of_mode(folder, group, mode);
    let Some(who) = who_else(owner, what) else { return Ok(()) };
    let (shown, mend) = (folder.display(), mend(owner, what, folder));
    let mend = match owner {
        0 => format!("{mend}, or name who works with `user:`"),
        owner => format!("name who works with `user: {}`, or {mend}", user_name(owner)),
    };
    Err(format!("`{shown}` {who}, and root writes nothing where another user could lead it astray: {mend}"))
}

/// The command that leaves a folder or link to root.
fn mend(owner: u32, what: What, path: &Path) -> String {
    let path = path_word(path);
    match what {
        What::Link => format!("`chown -h root {path}`"),
        _ if owner != 0 => format!("`chown root {path}`"),
        What::ByList => format!("`setfacl -b {path}`"),
        What::Open | What::OfGroup(_) | What::Closed | What::Sticky => format!("`chmod go-w {path}`"),
    }
}

fn primary_group(user: u32) -> Option<u32> {
    User::from_uid(Uid::from_raw(user)).ok().flatten().map(|it| it.gid.as_raw())
}

/// The first file, folder or link in a folder, however deep, that somebody else than root may change, and who.
pub fn not_roots_alone(folder: &Path) -> Option<(PathBuf, String)> {
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&next) else { continue };
        if let Some(who) = who_besides_root(&next, &metadata) {
            return Some((next, who));
        }
        if metadata.is_dir() {
            open.extend(fs::read_dir(&next).into_iter().flatten().flatten().map(|it| it.path()));
        }
    }
    None
}

/// Who besides root may change a file, a link or what is in a folder, as a clause.
pub fn who_besides_root(path: &Path, metadata: &fs::Metadata) -> Option<String> {
    let what = if metadata.is_symlink() { What::Link } else { of_folder(path, metadata) };
    who_else(metadata.uid(), what)
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
        What::ByList => Some("may be changed by others whom its access list names".to_owned()),
        What::Closed | What::Sticky | What::Link => None,
    }
}

fn of_folder(path: &Path, metadata: &fs::Metadata) -> What {
    match metadata.mode() {
        // Where the sticky bit is, nobody renames what is another's.
        mode if metadata.is_dir() && mode & 0o1000 != 0 && mode & 0o022 != 0 => What::Sticky,
        mode => of_mode(path, metadata.gid(), mode),
    }
}

fn of_mode(path: &Path, group: u32, mode: u32) -> What {
    match mode {
        mode if mode & 0o002 != 0 => What::Open,
        mode if mode & 0o020 != 0 && group != 0 => What::OfGroup(group),
        // Where there is an access list, these bits are its mask: what it allows at most.
        mode if mode & 0o020 != 0 && names_a_writer(path) => What::ByList,
        _ => What::Closed,
    }
}

/// Whether the access list of a file lets a user or group write that it names, root and its group aside. It is read as the
/// kernel gives it (`linux/posix_acl_xattr.h`): a version, then entries of a tag, rights and a number.
fn names_a_writer(path: &Path) -> bool {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const WRITE: u16 = 0x02;
    let mut list = vec![0; 64 << 10];
    // No list, or a file system that knows none.
    let Ok(size) = lgetxattr(path, "system.posix_acl_access", &mut list) else { return false };
    let entries = list.get(4..size).unwrap_or_default().chunks_exact(8);
    let number = |it: &[u8]| u16::from_le_bytes([it[0], it[1]]);
    entries.into_iter().any(|it| {
        let (tag, rights, is_roots) = (number(it), number(&it[2..]), it[4..] == [0; 4]);
        matches!(tag, USER | GROUP) && rights & WRITE != 0 && !is_roots
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    };

    use nix::unistd::{Gid, Uid};

    use super::{look, look_at_file, not_roots_alone};

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
        let list = std::process::Command::new("setfacl").args(["-m", "u:nobody:rwx"]).arg(&above).status();
        assert!(list.expect("setfacl is installed by scripts/test").success());
        let refused = judged().expect_err("refused");
        assert!(refused.contains("its access list names") && refused.contains("`setfacl -b "), "{refused}");
        fs::remove_dir_all(&above).expect("removed");
        fs::create_dir_all(&site).expect("folders");
        mode(0o775);
        chown(&above, None, Some(65534)).expect("another group");
        assert!(judged().expect_err("refused").contains("may be changed by group `"));
        mode(0o757);
        assert!(judged().expect_err("refused").contains("may be changed by everybody"));
        mode(0o1777);
        judged().expect("nobody renames what is root's there");
        mode(0o755);
        fs::set_permissions(&site, fs::Permissions::from_mode(0o757)).expect("a mode");
        assert!(judged().expect_err("refused").contains("so root would write where somebody else may put a link"));
        fs::set_permissions(&site, fs::Permissions::from_mode(0o755)).expect("a mode");
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

    #[test]
    fn as_root_whoever_may_have_made_a_folder_first_is_not_taken_for_its_owner() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("site");
        fs::create_dir(&site).expect("a folder");
        chown(&site, Some(65534), None).expect("given away");
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("a mode");
        let judged = || look(&site).expect("looked").judge_owner();
        mode(0o755);
        judged().expect("root has given it to them");
        for open in [0o1777, 0o777] {
            mode(open);
            assert!(judged().expect_err("refused").contains("others could have made it"), "{open:o}");
        }
        chown(&site, Some(0), None).expect("taken back");
        mode(0o1777);
        judged().expect("it is root's");
    }

    #[test]
    fn as_root_a_file_is_read_as_whoever_may_lead_the_way_elsewhere() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (home, file) = (folder.path().join("home"), folder.path().join("home/key"));
        fs::create_dir(&home).expect("a folder");
        fs::write(&file, "").expect("written");
        let reader = || look_at_file(&file).expect("looked").reader();
        assert_eq!(reader(), Ok(0));
        chown(&home, Some(65534), None).expect("given away");
        assert_eq!(reader(), Ok(65534));
        fs::remove_file(&file).expect("removed");
        symlink("/etc/shadow", &file).expect("a link");
        assert_eq!(reader(), Ok(65534), "wherever it leads");
        lchown(&file, Some(1), None).expect("given away");
        assert!(reader().expect_err("refused").contains("both `nobody` and `daemon`"));
        lchown(&file, Some(0), None).expect("taken back");
        chown(&home, Some(0), Some(65534)).expect("taken back");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o770)).expect("a mode");
        assert!(reader().expect_err("refused").contains("what root alone may read: `chmod go-w "));
    }

    #[test]
    fn as_root_the_way_to_what_one_user_relies_on_is_theirs_or_roots() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("app/state");
        fs::create_dir_all(&state).expect("folders");
        let judged = |user| look(&state).expect("looked").judge_for(Uid::from_raw(user), Gid::from_raw(user));
        let (root, nobody) = (0, 65534);
        judged(root).expect("all of it is root's");
        judged(nobody).expect("root may do anything anyway");
        chown(folder.path().join("app"), Some(nobody), Some(nobody)).expect("given away");
        assert!(judged(root).expect_err("refused").contains("belongs to `nobody`: `chown root "));
        judged(nobody).expect("it is theirs");
        fs::set_permissions(folder.path().join("app"), fs::Permissions::from_mode(0o775)).expect("a mode");
        judged(nobody).expect("and so is the group");
        assert!(judged(1).expect_err("refused").contains("belongs to `nobody`"));
    }

    #[test]
    fn as_root_what_others_may_change_in_a_folder_is_found_however_deep_files_too() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a/b/config");
        fs::create_dir_all(folder.path().join("a/b")).expect("folders");
        fs::write(&file, "").expect("written");
        assert_eq!(not_roots_alone(folder.path()), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).expect("a mode");
        assert_eq!(not_roots_alone(folder.path()), Some((file, "may be changed by everybody".to_owned())));
    }
}
