//! The kernel command line, as far as it concerns the helper.

use kiln_contract::cmdline as words;
use std::time::Duration;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Say every step.
    pub(crate) debug: bool,
    /// Show the plan for the disks, change nothing and stop.
    pub(crate) report: bool,
    /// How long a plan that loses data can be stopped.
    pub(crate) countdown: Duration,
    /// How long the booted disk may take to appear.
    pub(crate) disk_timeout: Duration,
    /// Modules that must not be loaded by alias (`modprobe.blacklist=`), in normal form.
    pub(crate) blacklist: Vec<String>,
    /// `module.parameter=value` words: (module in normal form, `parameter=value`).
    pub(crate) parameters: Vec<(String, String)>,
}

impl CommandLine {
    /// From /proc/cmdline; an unreadable one is an empty one.
    pub(crate) fn of_running_kernel() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Words that are not ours are passed over; a bad number is as good as none.
    pub(crate) fn parse(text: &str) -> Self {
        let timeout = Duration::from_secs(words::DISK_TIMEOUT_SECONDS);
        let countdown = Duration::from_secs(words::COUNTDOWN_SECONDS);
        let mut line = Self {
            debug: false,
            report: false,
            countdown,
            disk_timeout: timeout,
            blacklist: Vec::new(),
            parameters: Vec::new(),
        };
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
            match (key, value) {
                (words::DEBUG, _) => line.debug = value != Some("0"),
                (words::DISK_TIMEOUT, Some(seconds)) => {
                    line.disk_timeout = seconds.parse().map_or(timeout, Duration::from_secs);
                }
                (words::REPORT, _) => line.report = value != Some("0"),
                (words::COUNTDOWN, Some(seconds)) => {
                    line.countdown = seconds.parse().map_or(countdown, Duration::from_secs);
                }
                ("modprobe.blacklist", Some(names)) => {
                    line.blacklist.extend(names.split(',').map(crate::modules::normal));
                }
                _ => {
                    if let Some((module, parameter)) = word.split_once('.') {
                        line.parameters.push((crate::modules::normal(module), parameter.to_owned()));
                    }
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::CommandLine;

    #[test]
    fn words_are_found_among_others() {
        let line = CommandLine::parse(
            "ro quiet kiln.disk_timeout=5 modprobe.blacklist=mpt3sas,virtio-blk usb-storage.delay_use=0 kiln.debug",
        );
        assert!(line.debug);
        assert_eq!(line.disk_timeout.as_secs(), 5);
        assert_eq!(line.blacklist, ["mpt3sas", "virtio_blk"]);
        assert!(!line.report);
        assert_eq!(line.parameters, [("usb_storage".to_owned(), "delay_use=0".to_owned())]);
    }

    #[test]
    fn words_about_the_plan() {
        let line = CommandLine::parse("kiln.report kiln.countdown=3");
        assert!(line.report);
        assert_eq!(line.countdown.as_secs(), 3);
        assert!(line.parameters.is_empty());
        for text in ["kiln.report=0", "kiln.countdown=never", "kiln.countdown=-1"] {
            let line = CommandLine::parse(text);
            assert!(!line.report);
            assert_eq!(line.countdown.as_secs(), 20);
        }
    }

    #[test]
    fn a_bad_number_leaves_the_default() {
        assert_eq!(CommandLine::parse("kiln.disk_timeout=soon").disk_timeout.as_secs(), 60);
        assert_eq!(CommandLine::parse("").disk_timeout.as_secs(), 60);
    }
}
