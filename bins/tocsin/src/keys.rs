use clap::Subcommand;
use domain::{ApiKey, Role};
use store::Store;

use crate::{NOT_DONE, Problem};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key and show it, this once
    Create {
        /// Whose it is, or what it is for
        name: String,
        /// send (requests), read (all but addresses and texts), operate (send, see all, stop, retry, edit, pause), or
        /// admin (all that, keys, properties, audit)
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// Show all keys, without their secrets
    List,
    /// Make a key open nothing any more
    Revoke {
        /// Its first part, as `list` shows it
        prefix: String,
    },
}

fn role(name: &str) -> Result<Role, String> {
    name.parse().map_err(|error: domain::UnknownRole| error.to_string())
}

/// Straight on the database: the first key can't come from the API.
pub(crate) async fn run(command: &Command, store: &Store) -> Result<(), Problem> {
    match command {
        Command::Create { name, role } => {
            if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
                return Err(Problem::new(NOT_DONE, "NAME: must be 1 to 100 characters, without control characters"));
            }
            let key = ApiKey::of_random(runtime::random_bytes());
            store.api_key_create(&key, name, *role, &runtime::operator()).await?;
            // Alone on standard output, so that a script can keep it.
            println!("{}", key.expose());
            eprintln!("keep it: it is not shown again; `tocsin key revoke {}` ends it", key.prefix());
        }
        Command::List => {
            let keys = store.api_keys().await?;
            for key in &keys {
                let end = key.revoked_at.map_or_else(String::new, |at| format!("  revoked {at:.0}"));
                let (role, name) = (key.role.as_str(), key.name.as_str());
                println!("{}  {role:<7}  {name}  by {} {:.0}{end}", key.prefix, key.created_by, key.created_at);
            }
            if keys.is_empty() {
                println!("there are none; make one with `tocsin key create NAME --role admin`");
            }
        }
        Command::Revoke { prefix } => {
            let revoked = store.api_key_revoke(prefix, &runtime::operator()).await?;
            let key = revoked.ok_or_else(|| Problem::new(NOT_DONE, format!("no key {prefix} opens anything")))?;
            println!("{} ({}) opens nothing any more", key.prefix, key.name);
        }
    }
    Ok(())
}
