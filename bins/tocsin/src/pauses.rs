use store::Pause;

use crate::{
    BAD_USAGE, NOT_DONE, Problem, Way,
    control::{administration, plain},
};

async fn pauses(way: &Way) -> Result<Vec<Pause>, Problem> {
    match way {
        Way::Database(store) => Ok(store.channel_pauses().await?),
        Way::Api(client) => administration::pauses(client).await,
    }
}

pub(crate) async fn show(way: &Way) -> Result<(), Problem> {
    let pauses = pauses(way).await?;
    pauses.iter().for_each(|pause| println!("{}", plain(&pause.to_string())));
    if pauses.is_empty() {
        println!("nothing is paused");
    }
    Ok(())
}

pub(crate) async fn pause(way: &Way, channel: &str, by: Option<String>, reason: Option<&str>) -> Result<(), Problem> {
    match (way, by) {
        (Way::Database(store), by) => {
            store.channel_pause(channel, &by.unwrap_or_else(runtime::operator), reason).await?;
        }
        (Way::Api(client), None) => administration::pause(client, channel, reason).await?,
        (Way::Api(_), Some(_)) => {
            return Err(Problem::new(BAD_USAGE, "--by: through the API the key says who it is; leave it out"));
        }
    }
    println!(
        "{channel}: paused; nothing new is claimed, what is being sent now will end; `tocsin resume {channel}` ends it"
    );
    Ok(())
}

pub(crate) async fn resume(way: &Way, channel: &str) -> Result<(), Problem> {
    let (lifted, others) = match way {
        Way::Database(store) => {
            let lifted = store.channel_resume(channel, &runtime::operator()).await?;
            (lifted.into_iter().map(|pause| pause.channel).collect(), store.channel_pauses().await?)
        }
        Way::Api(client) => (vec![channel.to_owned()], administration::resume(client, channel).await?),
    };
    if lifted.is_empty() {
        let others: Vec<_> = others.iter().map(|pause| format!("; but {pause}")).collect();
        return Err(Problem::new(NOT_DONE, format!("{channel} was not paused{}", others.concat())));
    }
    lifted.iter().for_each(|channel| println!("{channel}: goes on"));
    for pause in others.iter().filter(|pause| pause.channel == store::ALL_CHANNELS) {
        println!("but {}", plain(&pause.to_string()));
    }
    Ok(())
}
