//! `provost plugin test`: the captures and goldens that a plugin brings along, replayed without a socket.

use std::{
    fmt, fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use provost_server::{
    golden::{self, Bench, Case, Files},
    replay::{self, Capture, Replay},
    settings::{Settings, SettingsFile},
};

use super::Named;

/// How a case ended.
enum Verdict {
    Ok,
    Written,
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Written => "written",
            Verdict::Failed(_) => "FAILED",
        })
    }
}

pub(crate) fn test(settings: &Settings, wanted: &str, update: bool, out: &mut impl Write) -> Result<ExitCode> {
    // What a failing case has to say is told with the case.
    crate::log(settings, "off")?;
    let named = Named::find(settings, wanted, true)?;
    let Some(plugin) = named.plugin() else {
        for problem in &named.problems {
            writeln!(out, "{problem}")?;
        }
        writeln!(out, "{wanted} is refused, so there is nothing to test")?;
        return Ok(ExitCode::FAILURE);
    };
    if !plugin.origin.is_dir() {
        bail!("{} is a library by itself; captures and goldens lie in a plugin's folder", plugin.origin.display());
    }
    // Nothing of this site: what comes out must be the same everywhere.
    let plain = SettingsFile::default().settle(None)?;
    let roots = [Some(plugin.origin.as_path()), named.places.templates.parent()];
    let bench = Bench {
        settings: Arc::new(plain),
        shelf: Arc::new(named.shelf.clone()),
        roots: roots.into_iter().flatten().filter(|root| root.parent().is_some()).map(Path::to_owned).collect(),
    };
    let place = |name: &str| plugin.origin.join(name);
    let read = |name: &str| format!("cannot read {}", place(name).display());
    let captures = replay::captures(&place("captures")).with_context(|| read("captures"))?;
    let cases = golden::cases(&place("goldens")).with_context(|| read("goldens"))?;
    if captures.is_empty() && cases.is_empty() {
        let here = plugin.origin.display();
        bail!("there is nothing to test: no message in {here}/captures, no case in {here}/goldens");
    }
    let replay = Replay::prepare(&bench, &plugin.id, &captures).map_err(anyhow::Error::msg)?;
    let (mut failed, mut written) = (0, 0);
    let mut tell = |name: String, verdict: io::Result<Verdict>| -> Result<()> {
        let verdict = verdict.with_context(|| format!("cannot write what came of {name}"))?;
        writeln!(out, "{verdict:8} {name}")?;
        match verdict {
            Verdict::Ok => {}
            Verdict::Written => written += 1,
            Verdict::Failed(why) => {
                failed += 1;
                for line in why.trim_end().lines() {
                    writeln!(out, "         {line}")?;
                }
            }
        }
        Ok(())
    };
    for capture in &captures {
        tell(format!("captures/{}", capture.name), replayed(&replay, capture, update))?;
    }
    for case in &cases {
        tell(format!("goldens/{}", case.name), rendered(&bench, case, &plugin.id, update))?;
    }
    let all = captures.len() + cases.len();
    writeln!(out, "{}: {all} cases, {failed} failed, {written} written", plugin.spec.vendor)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rendered(bench: &Bench, case: &Case, plugin: &str, update: bool) -> io::Result<Verdict> {
    let outcome = match case.run(bench) {
        Ok(outcome) => outcome,
        Err(why) => return Ok(Verdict::Failed(why)),
    };
    if outcome.plugin != plugin {
        return Ok(Verdict::Failed(format!("its device is one of {}, not of {plugin}", outcome.plugin)));
    }
    let expected = case.expected()?;
    Ok(match compare(&expected, &outcome.files) {
        None => Verdict::Ok,
        Some(_) if update => {
            case.accept(&outcome.files)?;
            Verdict::Written
        }
        Some(why) => Verdict::Failed(why),
    })
}

fn replayed(replay: &Replay<'_>, capture: &Capture, update: bool) -> io::Result<Verdict> {
    let came = replay.run(capture);
    // No expectation makes good what must not be.
    if !came.faults.is_empty() {
        return Ok(Verdict::Failed(format!("{}\n{}", came.faults.join("\n"), came.said)));
    }
    let path = capture.expected();
    let file = |body: Vec<u8>| Files::from([(format!("{}.expected", capture.name), body)]);
    let expected = match fs::read(&path) {
        Ok(body) => file(body),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Files::new(),
        Err(error) => return Err(error),
    };
    Ok(match compare(&expected, &file(came.said.clone().into_bytes())) {
        None => Verdict::Ok,
        Some(_) if update => {
            fs::write(path, came.said)?;
            Verdict::Written
        }
        Some(_) if expected.is_empty() => Verdict::Failed(format!(
            "nothing says yet what must come of it; with --update this is written down:\n{}",
            came.said
        )),
        Some(why) => Verdict::Failed(why),
    })
}

fn compare(expected: &Files, came: &Files) -> Option<String> {
    let differences = golden::differences(expected, came);
    (!differences.is_empty())
        .then(|| differences.iter().map(|difference| format!("{difference}\n")).collect::<String>())
}
