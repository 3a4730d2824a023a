//! Commands to a running machine: QEMU's machine protocol, one JSON object a line (QEMU, docs/interop/qmp-spec.rst).

use crate::Error;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long an answer may take; QEMU answers between two slices of the guest.
const ANSWER: Duration = Duration::from_secs(30);

/// The machine's end of the conversation.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// Of the line that is not complete yet.
    partial: Vec<u8>,
    /// What happened while an answer was waited for.
    events: VecDeque<Value>,
}

impl Qmp {
    /// Begins the conversation: the greeting comes first, then its answer.
    pub(crate) fn new(stream: UnixStream) -> Result<Self, Error> {
        let mut qmp = Self { stream: BufReader::new(stream), partial: Vec::new(), events: VecDeque::new() };
        let greeting = qmp.message("its start", Instant::now() + ANSWER)?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Answer { command: "its start".to_owned(), answer: greeting.to_string() });
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Has a command executed and gives what it returns.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let deadline = Instant::now() + ANSWER;
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(Error::io("write to", "qmp.sock"))?;
        loop {
            let mut message = self.message(command, deadline)?;
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = message.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(Error::Refused { command: command.to_owned(), reason });
            }
            self.keep(message, command)?;
        }
    }

    /// Waits for an event of this name for which `wanted` is true. Events before it are dropped.
    pub(crate) fn event(
        &mut self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> Result<Value, Error> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == name && wanted(&event["data"]) {
                    return Ok(event);
                }
            }
            let message = self.message(name, deadline)?;
            self.keep(message, name)?;
        }
    }

    fn keep(&mut self, message: Value, command: &str) -> Result<(), Error> {
        if message.get("event").is_none() {
            return Err(Error::Answer { command: command.to_owned(), answer: message.to_string() });
        }
        self.events.push_back(message);
        Ok(())
    }

    /// The next message.
    fn message(&mut self, wanted: &str, deadline: Instant) -> Result<Value, Error> {
        let start = Instant::now();
        loop {
            // No time at all would be no limit.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let stream = self.stream.get_ref();
            stream.set_read_timeout(Some(left)).map_err(Error::io("use", "qmp.sock"))?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_slice(&line).map_err(|_| Error::Answer {
                        command: wanted.to_owned(),
                        answer: String::from_utf8_lossy(&line).trim_end().to_owned(),
                    });
                }
                Ok(_) => {
                    return Err(Error::io("read", "qmp.sock")(ErrorKind::UnexpectedEof.into()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        let wanted = format!("the machine's word on {wanted}");
                        return Err(Error::Deadline { waited: start.elapsed(), wanted, tail: String::new() });
                    }
                }
                Err(error) => return Err(Error::io("read", "qmp.sock")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Qmp;
    use crate::Error;
    use serde_json::{Value, json};
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

    /// A machine that greets, accepts the capabilities, and answers each further command with the next of `answers`.
    fn machine(answers: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            let mut theirs = theirs;
            theirs.write_all(GREETING.as_bytes()).unwrap();
            for answer in std::iter::once(&"{\"return\": {}}\r\n").chain(answers) {
                let command: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                assert!(command["execute"].is_string() && command["arguments"].is_object());
                theirs.write_all(answer.as_bytes()).unwrap();
            }
            // Until the other side has read everything.
            let _ = lines.next();
        });
        ours
    }

    #[test]
    fn answers_are_told_from_events() {
        let mut qmp = Qmp::new(machine(&[
            "{\"event\": \"STOP\"}\r\n{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"d1\"}}\r\n\
             {\"return\": {\"status\": \"paused\"}}\r\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}\r\n",
            "nonsense\n",
        ]))
        .unwrap();
        assert_eq!(qmp.execute("query-status", &json!({})).unwrap()["status"], "paused");
        let soon = Instant::now() + Duration::from_millis(200);
        let event = qmp.event("DEVICE_DELETED", |data| data["device"] == "d1", soon).unwrap();
        assert_eq!(event["data"]["device"], "d1");
        let late = qmp.event("STOP", |_| true, soon).unwrap_err();
        assert!(matches!(late, Error::Deadline { .. }), "{late}");
        let refused = qmp.execute("device_del", &json!({"id": "x"})).unwrap_err().to_string();
        assert_eq!(refused, "the machine refused device_del: no such device");
        let strange = qmp.execute("stop", &json!({})).unwrap_err().to_string();
        assert_eq!(strange, "the machine answered stop with \"nonsense\", which is not QMP");
    }

    #[test]
    fn an_end_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(Qmp::new(ours), Err(Error::Io { .. })));
    }
}
