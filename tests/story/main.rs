//! The demo's story from outside: each of its incidents is called by its name on the screen.
//!
//! A binary of its own, so that no other test takes the processor from the demo's clients meanwhile.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that cannot do its part fails the test"
)]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A demo that plays one scenario.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    /// Starts it and waits until it has its ports.
    fn start(scenario: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["demo", "--scenario", scenario])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let stdout = child.stdout.take().expect("its output is piped");
        let mut demo = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        demo.until("Ctrl-C ends it");
        demo
    }

    /// The lines up to the next that contains `text`.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.expect("the demo tells");
            let is_it = line.contains(text);
            seen.push(line);
            if is_it {
                return seen;
            }
        }
        panic!("the demo ended before it said {text:?}: {seen:#?}")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn every_incident_of_the_story_is_called_by_its_name_and_acted_on() {
    let expected = [
        (
            "borrowed-peak",
            "noisy_client reports at shop",
            Some("client reports"),
        ),
        (
            "slow-endpoint",
            "slow_endpoint search/",
            Some("endpoint search/"),
        ),
        ("cache-flush", "cache_failure catalog", None),
        ("retry-storm", "retry_storm shop", None),
    ];
    let mut demos =
        expected.map(|(scenario, verdict, held)| (Demo::start(scenario), verdict, held));
    for (demo, verdict, held) in &mut demos {
        let calm = demo.until("▶");
        assert!(!calm.iter().any(|line| line.contains('◆')), "{calm:#?}");
        let wrong = demo.until("■");
        let named = wrong.iter().any(|line| line.contains(*verdict));
        assert!(named, "{verdict} is not named: {wrong:#?}");
        if let Some(held) = held {
            let done = format!("done: {held}");
            let acted = wrong.iter().any(|line| line.contains(&done));
            assert!(acted, "{held} is not held: {wrong:#?}");
            demo.until("is released");
        }
    }
}
