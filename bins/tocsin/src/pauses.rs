use store::Store;

use crate::{NOT_DONE, Problem};

pub(crate) async fn show(store: &Store) -> Result<(), Problem> {
    let pauses = store.channel_pauses().await?;
    pauses.iter().for_each(|pause| println!("{pause}"));
    if pauses.is_empty() {
        println!("nothing is paused");
    }
    Ok(())
}

pub(crate) async fn pause(store: &Store, channel: &str, by: &str, reason: Option<&str>) -> Result<(), Problem> {
    store.channel_pause(channel, by, reason).await?;
    println!(
        "{channel}: paused; nothing new is claimed, what is being sent now will end; `tocsin resume {channel}` ends it"
    );
    Ok(())
}

pub(crate) async fn resume(store: &Store, channel: &str) -> Result<(), Problem> {
    let lifted = store.channel_resume(channel, &runtime::operator()).await?;
    if lifted.is_empty() {
        let others = store.channel_pauses().await?;
        let others: Vec<_> = others.iter().map(|pause| format!("; but {pause}")).collect();
        return Err(Problem::new(NOT_DONE, format!("{channel} was not paused{}", others.concat())));
    }
    lifted.iter().for_each(|pause| println!("{}: goes on", pause.channel));
    for pause in store.channel_pauses().await?.iter().filter(|pause| pause.channel == store::ALL_CHANNELS) {
        println!("but {pause}");
    }
    Ok(())
}
