//! What is known of the releases in a folder: `.landfall/releases.jsonl`, one line each, in the order of making.
//!
//! Whoever opens the file by hand can read it, and no daemon is needed for that. It is written whole, beside itself,
//! and takes its place in one step. A line that cannot be read is passed over, and the file that has it is kept: one torn
//! line must not stand between people and the way back.
//!
//! Invariant: a release is good because it was written down as good after it had been live, never because its folder
//! is there.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    iter::successors,
    os::fd::OwnedFd,
    path::Path,
};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, fsync, open, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::{
    journal::{
        Unreadable,
        site::{Site, Standing},
    },
    model::{
        push::CommitId,
        release::{ReleaseName, Verdict},
        run::RunId,
    },
};

const RECORDS: &str = "releases.jsonl";

/// Where a record is kept that has lines which cannot be read.
const DAMAGED: &str = "releases.jsonl.damaged";

/// What is read of the file at most.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How many are remembered of those whose trees are gone.
const GONE_MAX: usize = 200;

/// What is known of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: ReleaseName,
    /// Its commit; `None`: it was adopted, and did not say.
    pub commit: Option<CommitId>,
    /// The run that made it.
    pub run: RunId,
    /// When it was complete.
    pub at: Timestamp,
    /// The release in whose place it was to go live; `None`: there was none, or none that is known.
    pub after: Option<ReleaseName>,
    /// What is known of it.
    pub verdict: Verdict,
    /// First line of the commit's message.
    pub subject: String,
    /// Who wrote the commit.
    pub author: String,
    /// Bytes in its files, as it was complete.
    pub size_bytes: u64,
    /// Why it is bad, or was left; a sentence.
    pub note: Option<String>,
}

/// All releases of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    site: Site,
    /// In the order of making.
    pub releases: Vec<Release>,
    /// The one that `current` points to.
    pub live: Option<ReleaseName>,
    /// The numbers of the lines that cannot be read.
    damaged: Vec<usize>,
}

impl History {
    /// Reads what is known of the releases of this folder. What its owner may have put in the file's place is opened
    /// without following links.
    pub fn read(site: &Site) -> Result<Self, Unreadable> {
        let live = match site.standing() {
            Ok(Standing::Link(link)) => site.name_in(&link),
            Ok(Standing::Nothing | Standing::Folder | Standing::Other) => None,
            Err(err) => return Err(Unreadable::new("link to the live release", says(&site.current(), &err))),
        };
        let bytes = match read_records(site) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            result => result.map_err(|err| unreadable(site, &err))?,
        };
        let (mut releases, mut damaged) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(bytes.split(|it| *it == b'\n')).filter(|(_, line)| !line.is_empty()) {
            match str::from_utf8(line).ok().and_then(|it| decode(it).ok()) {
                Some(release) => releases.push(release),
                None => damaged.push(number),
            }
        }
        // Whoever died between the switch and its record had switched.
        for release in releases.iter_mut().filter(|it| Some(&it.name) == live.as_ref()) {
            if release.verdict == Verdict::Ready {
                release.verdict = Verdict::Live;
            }
        }
        Ok(Self { site: site.clone(), releases, live, damaged })
    }

    /// What people should know of lines that cannot be read; a sentence without a full stop.
    pub fn damage(&self) -> Option<String> {
        let (path, kept) = (self.site.records(), self.site.own().join(DAMAGED));
        let lines = match self.damaged.as_slice() {
            [] => return None,
            [one] => format!("line {one} of `{}` is", path.display()),
            [first, rest @ ..] => format!("line {first} and {} more of `{}` are", rest.len(), path.display()),
        };
        Some(format!(
            "{lines} no release as JSON and passed over, so nobody goes back to what was there; the next run keeps the \
             file as `{}`",
            kept.display()
        ))
    }

    /// The release of that name.
    pub fn find(&self, name: &ReleaseName) -> Option<&Release> {
        self.releases.iter().find(|it| it.name == *name)
    }

    /// Whether its tree is there.
    pub fn is_there(&self, name: &ReleaseName) -> bool {
        fs::symlink_metadata(self.site.release(name)).is_ok_and(|it| it.is_dir())
    }

    /// Why nobody goes back to this one, if so; a clause.
    pub fn obstacle(&self, release: &Release) -> Option<&'static str> {
        if self.live.as_ref() == Some(&release.name) {
            return Some("is live already");
        }
        if !self.is_there(&release.name) {
            return Some("is no longer there: it was put away to make room, or removed by hand");
        }
        match release.verdict {
            Verdict::Good => None,
            Verdict::Ready | Verdict::Live | Verdict::Bad => Some("has never been found good"),
        }
    }

    /// Those that can be gone back to, newest first: good, still there, not live.
    pub fn candidates(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter().rev().filter(|it| self.obstacle(it).is_none())
    }

    /// Those of them that the live one came after, nearest first. What people have left by going back is beside that way.
    pub fn way_back(&self) -> impl Iterator<Item = &Release> {
        let live = self.releases.iter().position(|it| Some(&it.name) == self.live.as_ref());
        let way = successors(self.before(live.unwrap_or(self.releases.len())), |at| self.before(*at));
        way.map(|at| &self.releases[at]).filter(|it| self.obstacle(it).is_none())
    }

    /// Where the one is that this one came after; where that is not known, the one that was made before it.
    fn before(&self, at: usize) -> Option<usize> {
        let after = self.releases.get(at).and_then(|it| it.after.as_ref());
        let known = after.and_then(|name| self.releases[..at].iter().position(|it| it.name == *name));
        known.or(at.checked_sub(1))
    }

    /// Notes another one.
    pub fn add(&mut self, release: Release) {
        self.releases.retain(|it| it.name != release.name);
        self.releases.push(release);
    }

    /// Writes all of it down; it is on the disk when this returns. Of trees that are gone the oldest are forgotten.
    pub fn write(&mut self) -> io::Result<()> {
        let is_gone: Vec<bool> = self.releases.iter().map(|it| !self.is_there(&it.name)).collect();
        let mut too_many = is_gone.iter().filter(|it| **it).count().saturating_sub(GONE_MAX);
        let mut is_gone = is_gone.into_iter();
        self.releases.retain(|_| {
            let is_forgotten = is_gone.next() == Some(true) && too_many > 0;
            too_many -= usize::from(is_forgotten);
            !is_forgotten
        });
        let text: String = self.releases.iter().map(|it| encode(it) + "\n").collect();
        let own = open_own(&self.site)?;
        let draft = format!("{RECORDS}.new");
        new_file(&own, &draft, text.as_bytes())?;
        if !self.damaged.is_empty() {
            new_file(&own, DAMAGED, &read_records(&self.site)?)?;
            self.damaged.clear();
        }
        renameat(&own, draft, &own, RECORDS)?;
        Ok(fsync(&own)?)
    }
}

/// The folder that the record is in. Whoever may change the one above it can put a link there, which nobody follows.
fn open_own(site: &Site) -> io::Result<OwnedFd> {
    let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(site.root(), folder, Mode::empty())?;
    Ok(openat(&root, ".landfall", folder | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Writes a file in the place of whatever has its name; it is on the disk when this returns.
fn new_file(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let _ = unlinkat(folder, name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_records(site: &Site) -> io::Result<Vec<u8>> {
    let own = open_own(site)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&own, RECORDS, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is too large to be one"));
    }
    Ok(bytes)
}

fn unreadable(site: &Site, err: &io::Error) -> Unreadable {
    let help = match err.kind() {
        io::ErrorKind::PermissionDenied => "give it to the user of the hook",
        _ => "move it away: the next deploy begins a new one, and nobody goes back to what the old one tells of",
    };
    Unreadable::new("record of releases", format!("{}; {help}", says(&site.records(), err)))
}

fn says(path: &Path, err: &io::Error) -> String {
    format!("`{}`: {err}", path.display())
}

/// A release as one line of JSON, without its end.
pub fn encode(release: &Release) -> String {
    let stored = Stored {
        release: release.name.to_string(),
        commit: release.commit.as_ref().map(CommitId::to_string),
        run: release.run.0,
        at: release.at.to_string(),
        after: release.after.as_ref().map(ReleaseName::to_string),
        verdict: release.verdict.word().into(),
        subject: release.subject.clone(),
        author: release.author.clone(),
        size_bytes: release.size_bytes,
        note: release.note.clone(),
    };
    serde_json::to_string(&stored).expect("a release is strings and numbers")
}

/// The release that [`encode`] wrote. What is wrong is not quoted: it may be of another file.
pub fn decode(line: &str) -> Result<Release, Unreadable> {
    let damaged = |why: &str| Unreadable::new("record of releases", why);
    let stored: Stored = serde_json::from_str(line).map_err(|_| damaged("a line is not a release as JSON"))?;
    let commit = match stored.commit {
        None => None,
        Some(text) => Some(CommitId::parse(&text).ok_or_else(|| damaged("a commit is not one"))?),
    };
    let name = |text: &str| ReleaseName::parse(text).ok_or_else(|| damaged("a release's name is not one"));
    Ok(Release {
        name: name(&stored.release)?,
        commit,
        run: RunId(stored.run),
        at: stored.at.parse().map_err(|_| damaged("a time is not one"))?,
        after: stored.after.as_deref().map(name).transpose()?,
        verdict: Verdict::parse(&stored.verdict).ok_or_else(|| damaged("a verdict is not one"))?,
        subject: stored.subject,
        author: stored.author,
        size_bytes: stored.size_bytes,
        note: stored.note,
    })
}

#[derive(Serialize, Deserialize)]
struct Stored {
    release: String,
    commit: Option<String>,
    run: i64,
    at: String,
    after: Option<String>,
    verdict: String,
    subject: String,
    author: String,
    size_bytes: u64,
    note: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use jiff::Timestamp;

    use super::{History, Release};
    use crate::{
        journal::site::Site,
        model::{
            push::CommitId,
            release::{ReleaseName, Verdict},
            run::RunId,
        },
    };

    fn release(run: i64, verdict: Verdict) -> Release {
        let commit = CommitId::parse(&format!("{run:040}").replace('0', "a"));
        Release {
            name: ReleaseName::parse(&format!("x-r{run}")).expect("a name"),
            commit,
            run: RunId(run),
            at: Timestamp::from_second(run).expect("in range"),
            after: None,
            verdict,
            subject: "a \"subject\"\nand more".into(),
            author: "Ana".into(),
            size_bytes: 7,
            note: Some("why".into()),
        }
    }

    /// A folder with these releases, of which the second is live.
    fn site(verdicts: &[Verdict]) -> (tempfile::TempDir, Site, History) {
        let folder = tempfile::tempdir().expect("a folder");
        let site = Site::at(folder.path());
        fs::create_dir(site.own()).expect("made");
        symlink("releases/x-r2", site.current()).expect("a link");
        let mut history = History::read(&site).expect("readable");
        for (run, verdict) in (1..).zip(verdicts) {
            history.add(release(run, *verdict));
            fs::create_dir_all(site.release(&release(run, *verdict).name)).expect("made");
        }
        history.write().expect("written");
        (folder, site, history)
    }

    #[test]
    fn the_record_reads_back_as_it_was_written() {
        let (_folder, site, history) = site(&[Verdict::Good, Verdict::Live, Verdict::Bad]);
        assert_eq!(History::read(&site).expect("readable"), history);
        assert_eq!(fs::read_to_string(site.records()).expect("a file").lines().count(), 3);
    }

    #[test]
    fn only_what_was_good_and_is_there_is_a_way_back() {
        let (_folder, site, history) = site(&[Verdict::Good, Verdict::Good, Verdict::Ready, Verdict::Good]);
        let names = |list: Vec<&Release>| list.iter().map(|it| it.run.0).collect::<Vec<_>>();
        assert_eq!(names(history.candidates().collect()), [4, 1]);
        assert_eq!(names(history.way_back().collect()), [1]);
        fs::remove_dir(site.release(&release(1, Verdict::Good).name)).expect("removed");
        assert_eq!(names(history.way_back().collect()), [0; 0]);
    }

    #[test]
    fn a_record_that_lags_behind_the_link_is_read_as_the_link_says() {
        let (_folder, site, _) = site(&[Verdict::Good, Verdict::Ready]);
        let history = History::read(&site).expect("readable");
        assert_eq!(
            (history.live.map(|it| it.to_string()), history.releases[1].verdict),
            (Some("x-r2".into()), Verdict::Live)
        );
    }

    #[test]
    fn what_people_left_by_going_back_is_not_on_the_way_back() {
        let (_folder, site, mut history) = site(&[Verdict::Good; 5]);
        let name = |run: i64| release(run, Verdict::Good).name;
        // One, two, three; back to one; then four in its place, and five.
        for (run, after) in [(2, Some(1)), (3, Some(2)), (4, Some(1)), (5, Some(4))] {
            history.releases[run - 1].after = after.map(name);
        }
        let way = |history: &History, live: i64| {
            let history = History { live: Some(name(live)), ..history.clone() };
            history.way_back().map(|it| it.run.0).collect::<Vec<_>>()
        };
        assert_eq!((way(&history, 5), way(&history, 4)), (vec![4, 1], vec![1]));
        assert_eq!((way(&history, 3), way(&history, 1)), (vec![2, 1], vec![]));
        // The way goes on beyond one that is gone, and one that was never found good.
        fs::remove_dir(site.release(&name(4))).expect("removed");
        assert_eq!(way(&history, 5), [1]);
        // A record that was mended by hand leads nobody in circles.
        history.releases[0].after = Some(name(5));
        assert_eq!(way(&history, 5), [1]);
    }

    #[test]
    fn a_torn_line_costs_one_release_and_the_file_that_had_it_is_kept() {
        let (_folder, site, _) = site(&[Verdict::Good, Verdict::Good, Verdict::Good]);
        let text = fs::read_to_string(site.records()).expect("a file");
        let torn = [&text.as_bytes()[..text.len() - 20], b"\n\xff\xfe\n"].concat();
        fs::write(site.records(), &torn).expect("written");
        let mut history = History::read(&site).expect("readable");
        assert_eq!(history.releases.len(), 2);
        let damage = history.damage().expect("a sentence");
        assert!(damage.starts_with(&format!("line 3 and 1 more of `{}` are", site.records().display())), "{damage}");
        history.write().expect("written");
        assert_eq!(fs::read(site.own().join("releases.jsonl.damaged")).expect("kept"), torn);
        let history = History::read(&site).expect("readable");
        assert_eq!((history.damage(), history.releases.len()), (None, 2));
    }

    #[test]
    fn a_link_in_the_records_place_is_not_followed_and_nothing_of_it_is_told() {
        let (folder, site, _) = site(&[]);
        let hidden = folder.path().join("hidden");
        fs::write(&hidden, "password=x\n").expect("written");
        fs::remove_file(site.records()).expect("removed");
        symlink(&hidden, site.records()).expect("a link");
        assert!(!History::read(&site).expect_err("refused").to_string().contains("password"));
        fs::remove_file(site.records()).expect("removed");
        fs::write(site.records(), "password=x\n").expect("written");
        let damage = History::read(&site).expect("readable").damage().expect("a sentence");
        assert!(damage.starts_with("line 1 of `") && !damage.contains("password"), "{damage}");
    }

    #[test]
    fn writing_follows_no_link_that_stands_where_a_file_or_the_folder_of_the_record_belongs() {
        let (folder, site, _) = site(&[Verdict::Good, Verdict::Good]);
        let hidden = folder.path().join("hidden");
        fs::write(&hidden, "password=x\n").expect("written");
        fs::write(site.records(), "torn\n").expect("written");
        for name in ["releases.jsonl.new", "releases.jsonl.damaged"] {
            symlink(&hidden, site.own().join(name)).expect("a link");
        }
        let mut history = History::read(&site).expect("readable");
        history.write().expect("written");
        assert_eq!(fs::read_to_string(&hidden).expect("there"), "password=x\n");
        assert_eq!(fs::read_to_string(site.own().join("releases.jsonl.damaged")).expect("kept"), "torn\n");

        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("made");
        fs::rename(site.own(), folder.path().join("own")).expect("moved");
        symlink(&elsewhere, site.own()).expect("a link");
        history.write().expect_err("refused");
        assert_eq!(fs::read_dir(elsewhere).expect("there").count(), 0);
    }
}
