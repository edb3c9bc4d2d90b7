use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

/// What no log may hold: passwords, tokens and keys of the tests and of development, and addresses that tests reach.
const HIDDEN: &[&str] = &[
    "-development",
    "whsec_",
    "a-very-secret-token",
    "roesc-token",
    "roesc-password",
    "pass-word",
    "@example.org",
    "@example.net",
    "/webhook/",
];

/// Looks through the logs of every program that the tests have started.
pub(crate) fn search(arenas: &Path) -> Result<()> {
    let (mut logs, mut lines, mut found) = (0, 0, Vec::new());
    if !arenas.exists() {
        println!("no program was started");
        return Ok(());
    }
    for arena in fs::read_dir(arenas).with_context(|| arenas.display().to_string())? {
        let arena = arena?.path();
        if !arena.is_dir() {
            continue;
        }
        for log in fs::read_dir(&arena)? {
            let path = log?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            logs += 1;
            for line in String::from_utf8_lossy(&fs::read(&path)?).lines() {
                lines += 1;
                if let Some(leak) = leak(line) {
                    found.push(format!("{}: {leak}: {line}", path.display()));
                }
            }
        }
    }
    if !found.is_empty() {
        found.truncate(20);
        bail!("logs hold what they must not:\n{}", found.join("\n"));
    }
    println!("{logs} logs with {lines} lines hold no secret, no number and no address");
    Ok(())
}

fn leak(line: &str) -> Option<String> {
    let hidden = HIDDEN.iter().find(|hidden| line.contains(*hidden)).map(|hidden| (*hidden).to_owned());
    hidden.or_else(|| phone_number(line))
}

/// A plus and six digits or more. The same without the plus would be found in every timestamp.
fn phone_number(line: &str) -> Option<String> {
    line.split('+').skip(1).find_map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits >= 6).then(|| format!("+{}", &rest[..digits]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found() {
        assert_eq!(leak(r#"{"timestamp":"2026-11-22T03:00:00.000001Z","late_ms":5}"#), None);
        assert_eq!(leak("at 2026-11-22T03:00:00+01:00"), None);
        assert_eq!(leak("called +3851111111 now").as_deref(), Some("+3851111111"));
        assert_eq!(leak("mail for me@example.org").as_deref(), Some("@example.org"));
        assert!(leak("amqp://activator:activator-development@localhost").is_some());
    }
}
