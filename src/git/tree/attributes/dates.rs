//! Moments as git prints them (its date.c), in the zone that the person wrote them in.
//!
//! Invariant: the same bytes as git prints for the same moment, however odd its year or its zone is.

/// A moment, and the zone it was written in: `-130` is an hour and a half west of Greenwich.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) struct Moment {
    pub(in crate::git) seconds: i64,
    pub(in crate::git) zone: i64,
}

/// How a moment is printed.
#[derive(Clone, Copy)]
pub(in crate::git) enum Style {
    Normal,
    Rfc2822,
    Iso8601,
    Iso8601Strict,
    Short,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const SECONDS_OF_DAY: i64 = 86_400;

impl Moment {
    /// Reads `seconds` and `zone` as they stand in a commit. A moment that no clock shows is the beginning of time.
    pub(in crate::git) fn parse(seconds: &[u8], zone: &[u8]) -> Self {
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
        let Some(seconds) = number(seconds) else { return Self::default() };
        let zone = number(zone).filter(|it| it.abs() < i64::from(i32::MAX)).unwrap_or(0);
        Self { seconds, zone }
    }

    /// Prints it.
    pub(in crate::git) fn print(self, style: Style) -> String {
        let Some((year, month, day, seconds)) = self.civil() else { return Self::default().print(style) };
        let weekday =
            DAYS[self.shifted().unwrap_or(0).div_euclid(SECONDS_OF_DAY).wrapping_add(4).rem_euclid(7) as usize];
        let month_name = MONTHS[month as usize - 1];
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let zone = self.zone;
        match style {
            // To git, this one zone means that nobody wants to see it.
            Style::Normal if zone == -1 => format!("{weekday} {month_name} {day} {time} {year}"),
            Style::Normal => format!("{weekday} {month_name} {day} {time} {year} {zone:+05}"),
            Style::Rfc2822 => format!("{weekday}, {day} {month_name} {year} {time} {zone:+05}"),
            Style::Iso8601 => format!("{year:04}-{month:02}-{day:02} {time} {zone:+05}"),
            Style::Iso8601Strict if zone == 0 => format!("{year:04}-{month:02}-{day:02}T{time}Z"),
            Style::Iso8601Strict => {
                let (sign, zone) = (if zone < 0 { '-' } else { '+' }, zone.abs());
                format!("{year:04}-{month:02}-{day:02}T{time}{sign}{:02}:{:02}", zone / 100, zone % 100)
            }
            Style::Short => format!("{year:04}-{month:02}-{day:02}"),
        }
    }

    /// How long ago it was, in words.
    pub(in crate::git) fn ago(self, now: i64) -> String {
        let some = |count: i64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
        let Some(seconds) = now.checked_sub(self.seconds).filter(|it| *it >= 0) else { return "in the future".into() };
        let minutes = (seconds + 30) / 60;
        let hours = (minutes + 30) / 60;
        let days = (hours + 12) / 24;
        let months = (days * 24 + 365) / 730;
        match () {
            () if seconds < 90 => format!("{} ago", some(seconds, "second")),
            () if minutes < 90 => format!("{} ago", some(minutes, "minute")),
            () if hours < 36 => format!("{} ago", some(hours, "hour")),
            () if days < 14 => format!("{} ago", some(days, "day")),
            () if days < 70 => format!("{} ago", some((days + 3) / 7, "week")),
            () if days < 365 => format!("{} ago", some((days + 15) / 30, "month")),
            () if days >= 1825 => format!("{} ago", some((days + 183) / 365, "year")),
            () if months % 12 == 0 => format!("{} ago", some(months / 12, "year")),
            () => format!("{}, {} ago", some(months / 12, "year"), some(months % 12, "month")),
        }
    }

    /// Seconds of the clock that hangs in the zone.
    fn shifted(self) -> Option<i64> {
        let zone = self.zone.abs();
        let offset = (zone / 100 * 60 + zone % 100) * 60;
        self.seconds.checked_add(if self.zone < 0 { -offset } else { offset })
    }

    /// Year, month, day and the seconds of the day (<https://howardhinnant.github.io/date_algorithms.html>); `None`: the
    /// year has more digits than C has room for.
    fn civil(self) -> Option<(i64, i64, i64, i64)> {
        let shifted = self.shifted()?;
        let days = shifted.div_euclid(SECONDS_OF_DAY) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Years begin in March here, so that the odd day is the last one.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year - 1900 <= i64::from(i32::MAX)).then_some((year, month, day, shifted.rem_euclid(SECONDS_OF_DAY)))
    }
}
