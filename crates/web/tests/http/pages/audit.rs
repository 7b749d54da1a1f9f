//! `/settings/audit` and `/admin/audit`

use http::StatusCode;

use crate::support::{ADA, EVE, World, path_of};

#[tokio::test]
async fn a_person_reads_in_plain_words_what_was_done() {
    let world = World::new().await;
    let (ada, token) = (world.browser().await, world.token("mcp").await);
    world.delete(&path_of(&token)).session(&ada).send().await;
    let page = world.get("/settings/audit").session(&ada).send().await;
    assert_eq!((page.status, page.kind()), (StatusCode::OK, "text/html"));
    for shown in
        ["revoked the token ci-pipeline", "You", "192.0.2.7", "signed in", "by a command on the server"]
    {
        assert!(page.text.contains(shown), "{shown} in {page}");
    }
    assert!(page.text.contains("href=\"/admin/audit\""), "an administrator is led on");
    let eve = world.browser_of(EVE).await;
    let others = world.get("/settings/audit").session(&eve).send().await;
    assert!(!others.text.contains("ci-pipeline") && !others.text.contains("/admin/audit"), "{others}");
}

#[tokio::test]
async fn the_form_filters_and_the_links_keep_what_was_asked() {
    let world = World::new().await;
    let ada = world.browser().await;
    for _ in 0..3 {
        world.token("mcp").await;
    }
    let page =
        world.get("/settings/audit?action=token&from=2126-04-07&to=&limit=2").session(&ada).send().await;
    assert_eq!(page.text.matches("created the token").count(), 2);
    assert!(!page.text.contains("signed in"), "{page}");
    assert!(page.text.contains("<option value=\"token\" selected>"), "{page}");
    let (_, rest) = page.text.split_once("rel=\"next\" href=\"").expect("there is more");
    let next = rest.split('"').next().expect("ends").replace("&amp;", "&");
    assert!(next.starts_with("/settings/audit?action=token&from=2126-04-07&limit=2&after="), "{next}");
    let older = world.get(&next).session(&ada).send().await;
    assert_eq!(older.text.matches("created the token").count(), 1);
    assert!(older.text.contains(">Newest<") && !older.text.contains(">Older<"), "{older}");
    let nothing = world.get("/settings/audit?to=2000-01-01").session(&ada).send().await;
    assert!(nothing.text.contains("No results."), "{nothing}");
}

#[tokio::test]
async fn an_administrator_sees_whose_account_it_was() {
    let world = World::new().await;
    world.token_of(EVE, "mcp").await;
    let ada = world.browser().await;
    let page = world.get(&format!("/admin/audit?user={EVE}")).session(&ada).send().await;
    assert!(page.text.contains(&format!("of {EVE}")) && !page.text.contains(&format!("of {ADA}")), "{page}");
    let eve = world.browser_of(EVE).await;
    let refused = world.get("/admin/audit").session(&eve).send().await;
    assert_eq!((refused.status, refused.kind()), (StatusCode::FORBIDDEN, "text/html"));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said_beside_the_form() {
    let world = World::new().await;
    let ada = world.browser().await;
    for (path, says) in [
        ("/settings/audit?from=soon", "soon"),
        ("/admin/audit?user=nobody@example.org", "email address"),
        ("/settings/audit?after=x", "next"),
    ] {
        let page = world.get(path).session(&ada).send().await;
        assert_eq!((page.status, page.kind()), (StatusCode::BAD_REQUEST, "text/html"), "{path}");
        assert!(
            page.text.contains("role=\"alert\"") && page.text.contains("<form class=\"filters\""),
            "{page}"
        );
        assert!(page.text.contains(says), "{says} in {page}");
    }
    let markup = world.get("/settings/audit?action=%3Cscript%3E").session(&ada).send().await;
    assert!(markup.text.contains("&lt;script&gt;") && !markup.text.contains("<script>"), "{markup}");
}
