//! `strftime` on a given clock, in the C locale, as Python's naive datetime does.
use std::fmt::Write;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Clock {
    pub year: i32,
    pub month: i32,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    pub microsecond: i32,
}

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days since 1970-01-01 of a proleptic Gregorian date.
fn days_from_civil(year: i32, month: i32, day: i32) -> i64 {
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl Clock {
    pub fn check(&self) -> Result<(), String> {
        let ok = (1..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..=60).contains(&self.second);
        ok.then_some(()).ok_or_else(|| "clock: expected a calendar date and time".to_string())
    }

    /// 0 is Sunday.
    fn weekday(&self) -> i32 {
        (days_from_civil(self.year, self.month, self.day) + 4).rem_euclid(7) as i32
    }

    /// 1 is the first of January.
    fn day_of_year(&self) -> i32 {
        (days_from_civil(self.year, self.month, self.day) - days_from_civil(self.year, 1, 1)) as i32
            + 1
    }

    fn hour12(&self) -> i32 {
        match self.hour % 12 {
            0 => 12,
            hour => hour,
        }
    }

    /// ISO 8601 year and week.
    fn iso_week(&self) -> (i32, i32) {
        let monday_based = (self.weekday() + 6) % 7;
        let week = (self.day_of_year() - 1 - monday_based + 10) / 7;
        let weeks_in = |year: i32| {
            let first = (days_from_civil(year, 1, 1) + 4).rem_euclid(7);
            if first == 4 || (first == 3 && leap(year)) {
                53
            } else {
                52
            }
        };
        if week < 1 {
            (self.year - 1, weeks_in(self.year - 1))
        } else if week > weeks_in(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

/// One number: its value, width and default padding.
fn number(out: &mut String, flag: Option<char>, value: i32, width: usize, pad: char) {
    let pad = match flag {
        Some('-') => return write!(out, "{value}").unwrap_or(()),
        Some('_') => ' ',
        Some('0') => '0',
        _ => pad,
    };
    let digits = value.to_string();
    for _ in digits.len()..width {
        out.push(pad);
    }
    out.push_str(&digits);
}

pub fn format(clock: &Clock, pattern: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flag = None;
        let mut spec = chars.next();
        if let Some(f @ ('-' | '_' | '0' | '^' | '#')) = spec {
            flag = Some(f);
            spec = chars.next();
        }
        let start = out.len();
        let spec = spec.ok_or("strftime_now: expected a letter after '%'")?;
        field(&mut out, clock, flag, spec)?;
        if flag == Some('^') {
            let upper = out.split_off(start).to_uppercase();
            out.push_str(&upper);
        }
    }
    Ok(out)
}

fn field(out: &mut String, c: &Clock, flag: Option<char>, spec: char) -> Result<(), String> {
    let day = DAYS[c.weekday() as usize];
    let month = MONTHS[(c.month - 1) as usize];
    let nested = |out: &mut String, pattern: &str| format(c, pattern).map(|t| out.push_str(&t));
    match spec {
        'a' => out.push_str(&day[..3]),
        'A' => out.push_str(day),
        'b' | 'h' => out.push_str(&month[..3]),
        'B' => out.push_str(month),
        'c' => nested(out, "%a %b %e %H:%M:%S %Y")?,
        'C' => number(out, flag, c.year / 100, 2, '0'),
        'd' => number(out, flag, c.day, 2, '0'),
        'D' | 'x' => nested(out, "%m/%d/%y")?,
        'e' => number(out, flag, c.day, 2, ' '),
        'f' => number(out, flag, c.microsecond, 6, '0'),
        'F' => nested(out, "%Y-%m-%d")?,
        'g' => number(out, flag, c.iso_week().0 % 100, 2, '0'),
        'G' => number(out, flag, c.iso_week().0, 4, '0'),
        'H' => number(out, flag, c.hour, 2, '0'),
        'I' => number(out, flag, c.hour12(), 2, '0'),
        'j' => number(out, flag, c.day_of_year(), 3, '0'),
        'k' => number(out, flag, c.hour, 2, ' '),
        'l' => number(out, flag, c.hour12(), 2, ' '),
        'm' => number(out, flag, c.month, 2, '0'),
        'M' => number(out, flag, c.minute, 2, '0'),
        'n' => out.push('\n'),
        'p' => out.push_str(if c.hour < 12 { "AM" } else { "PM" }),
        'P' => out.push_str(if c.hour < 12 { "am" } else { "pm" }),
        'r' => nested(out, "%I:%M:%S %p")?,
        'R' => nested(out, "%H:%M")?,
        'S' => number(out, flag, c.second, 2, '0'),
        't' => out.push('\t'),
        'T' | 'X' => nested(out, "%H:%M:%S")?,
        'u' => number(out, flag, if c.weekday() == 0 { 7 } else { c.weekday() }, 1, '0'),
        'U' => number(out, flag, (c.day_of_year() + 6 - c.weekday()) / 7, 2, '0'),
        'V' => number(out, flag, c.iso_week().1, 2, '0'),
        'w' => number(out, flag, c.weekday(), 1, '0'),
        'W' => number(out, flag, (c.day_of_year() + 6 - (c.weekday() + 6) % 7) / 7, 2, '0'),
        'y' => number(out, flag, c.year % 100, 2, '0'),
        'Y' => number(out, flag, c.year, 4, '0'),
        'z' | 'Z' => {} // a naive time has no zone
        '%' => out.push('%'),
        other => return Err(format!("strftime_now: expected a known letter, found '%{other}'")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Clock =
        Clock { year: 2026, month: 2, day: 3, hour: 4, minute: 5, second: 6, microsecond: 7 };

    #[test]
    fn fields() {
        let text = format(&NOW, "%A %B %e %j|%I:%M %p %y %%|%-d %U %W %V %G %u %w").unwrap();
        assert_eq!(text, "Tuesday February  3 034|04:05 AM 26 %|3 05 05 06 2026 2 2");
    }

    #[test]
    fn unknown_letters_are_errors() {
        assert!(format(&NOW, "%Q").is_err());
        assert!(format(&NOW, "%").is_err());
    }
}
