use crate::{claim, claim_request, fresh, insert_queued, state};

#[tokio::test]
async fn what_is_paused_is_not_claimed_and_goes_on_after_a_resume() {
    let (database, store) = fresh().await;
    for pause in ["phone", "all"] {
        let id = insert_queued(&database, pause).await;
        store.channel_pause(pause, "maria", Some("a reason")).await.unwrap();
        let batch = store.notifications_claim(claim_request(&[id], "worker")).await.unwrap();
        assert!(batch.paused && batch.claims.is_empty());
        assert_eq!(state(&database, id).await, "queued");
        let paused = store.channel_paused("phone").await.unwrap().unwrap();
        assert!(paused.to_string().starts_with(&format!("{pause} is paused by maria since ")), "{paused}");
        assert_eq!(store.channel_resume(pause, "maria").await.unwrap().len(), 1);
        assert!(claim(&store, id).await.is_some());
    }
    assert_eq!(store.channel_pauses().await.unwrap(), []);
}

#[tokio::test]
async fn another_channels_pause_is_not_ours() {
    let (database, store) = fresh().await;
    let id = insert_queued(&database, "p").await;
    store.channel_pause("sms", "maria", None).await.unwrap();
    assert_eq!(store.channel_paused("phone").await.unwrap(), None);
    assert!(claim(&store, id).await.is_some());
}

#[tokio::test]
async fn a_second_pause_brings_its_reason_and_all_lifts_every_one() {
    let (_database, store) = fresh().await;
    store.channel_pause("phone", "maria", Some("one")).await.unwrap();
    store.channel_pause("phone", "ivan", Some("two")).await.unwrap();
    store.channel_pause("all", "ivan", None).await.unwrap();
    let pauses = store.channel_pauses().await.unwrap();
    let told: Vec<_> = pauses.iter().map(|p| (p.channel.as_str(), p.paused_by.as_str(), p.reason.as_deref())).collect();
    assert_eq!(told, [("all", "ivan", None), ("phone", "ivan", Some("two"))]);
    assert_eq!(store.channel_resume("phone", "maria").await.unwrap().len(), 1);
    store.channel_pause("phone", "ivan", None).await.unwrap();
    assert_eq!(store.channel_resume("all", "maria").await.unwrap().len(), 2);
}
