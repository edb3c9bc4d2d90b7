use clap::Subcommand;
use domain::{ApiKey, Role};
use store::ApiKeyRecord;

use crate::{
    NOT_DONE, Problem, Way,
    control::{administration, plain},
};

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

/// The first key can't come from the API; the others may.
pub(crate) async fn run(command: &Command, way: &Way) -> Result<(), Problem> {
    match command {
        Command::Create { name, role } => {
            let (prefix, key) = create(name, *role, way).await?;
            // Alone on standard output, so that a script can keep it.
            println!("{key}");
            eprintln!("keep it: it is not shown again; `tocsin key revoke {prefix}` ends it");
        }
        Command::List => {
            let keys = match way {
                Way::Database(store) => store.api_keys().await?,
                Way::Api(client) => administration::keys(client).await?,
            };
            keys.iter().for_each(show);
            if keys.is_empty() {
                println!("there are none; make one with `tocsin key create NAME --role admin`");
            }
        }
        Command::Revoke { prefix } => {
            let revoked = match way {
                Way::Database(store) => store.api_key_revoke(prefix, &runtime::operator()).await?,
                Way::Api(client) => Some(administration::revoke_key(client, prefix).await?),
            };
            let key = revoked.ok_or_else(|| Problem::new(NOT_DONE, format!("no key {prefix} opens anything")))?;
            println!("{} ({}) opens nothing any more", key.prefix, plain(&key.name));
        }
    }
    Ok(())
}

/// Makes a key, and answers its prefix and the whole of it.
async fn create(name: &str, role: Role, way: &Way) -> Result<(String, String), Problem> {
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Problem::new(NOT_DONE, "NAME: must be 1 to 100 characters, without control characters"));
    }
    match way {
        Way::Database(store) => {
            let key = ApiKey::of_random(runtime::random_bytes());
            store.api_key_create(&key, name, role, &runtime::operator()).await?;
            Ok((key.prefix().to_owned(), key.expose().to_owned()))
        }
        Way::Api(client) => {
            let created = administration::create_key(client, name, role).await?;
            Ok((created.prefix, created.key))
        }
    }
}

fn show(key: &ApiKeyRecord) {
    let end = key.revoked_at.map_or_else(String::new, |at| format!("  revoked {at:.0}"));
    let (role, name, by) = (key.role.as_str(), plain(&key.name), plain(&key.created_by));
    println!("{}  {role:<7}  {name}  by {by} {:.0}{end}", key.prefix, key.created_at);
}
