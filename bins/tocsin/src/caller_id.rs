use std::io::Read;

use clap::Subcommand;
use domain::{CallerIdRegistry, PhoneNumber};
use serde_json::Value;

use crate::{NOT_DONE, Problem, Way, control::administration};

const PROPERTY: &str = "caller-id-registry";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the registry as JSON
    Get,
    /// Replace the registry; the workers use it from their next call on
    #[command(
        after_help = "Example: tocsin caller-id set '{\"+385\": \"+38514445555\", \"default\": \"+15005550006\"}'"
    )]
    Set {
        /// A JSON object of prefixes and numbers, with `default` for the rest; - reads it from standard input
        registry: String,
    },
    /// Show which number a call to a number would come from
    Test {
        /// The number called, in E.164
        number: String,
    },
}

pub(crate) async fn run(command: &Command, way: &Way) -> Result<(), Problem> {
    match command {
        Command::Get => {
            let registry = registry(way).await?;
            let registry =
                registry.ok_or_else(|| Problem::new(NOT_DONE, "there is none; set one with `tocsin caller-id set`"))?;
            println!("{registry:#}");
        }
        Command::Set { registry } => {
            let value = parse(&text(registry)?)?;
            match way {
                Way::Database(store) => store.property_set(PROPERTY, &value, &runtime::operator()).await?,
                Way::Api(client) => administration::set_registry(client, &value).await?,
            }
            println!("set; the workers use it from their next call on");
        }
        Command::Test { number } => {
            let number =
                PhoneNumber::parse(number).map_err(|error| Problem::new(NOT_DONE, format!("NUMBER: {error}")))?;
            let stored = registry(way).await?.unwrap_or_default();
            let registry = CallerIdRegistry::from_json(&stored)
                .map_err(|error| Problem::new(NOT_DONE, format!("the stored registry: {error}")))?;
            let caller = registry.caller_for(&number);
            let caller = caller.ok_or_else(|| Problem::new(NOT_DONE, "no prefix fits, and there is no default"))?;
            println!("{caller}");
        }
    }
    Ok(())
}

async fn registry(way: &Way) -> Result<Option<Value>, Problem> {
    match way {
        Way::Database(store) => Ok(store.property(PROPERTY).await?),
        Way::Api(client) => administration::registry(client).await,
    }
}

fn text(argument: &str) -> Result<String, Problem> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(1024 * 1024).read_to_string(&mut text);
    read.map_err(|error| Problem::new(NOT_DONE, format!("standard input: {error}")))?;
    Ok(text)
}

fn parse(text: &str) -> Result<Value, Problem> {
    let wrong =
        |error: &dyn std::fmt::Display| Problem::new(NOT_DONE, format!("REGISTRY: {error}; nothing was changed"));
    let value: Value = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    CallerIdRegistry::from_new_json(&value).map_err(|error| wrong(&error))?;
    Ok(value)
}
