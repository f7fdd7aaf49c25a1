//! The page: one HTML file with everything in it, which may load nothing from anywhere.

use super::data::Data;

const FRAME: &str = include_str!("page/frame.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPTS: [&str; 6] = [
    include_str!("page/model.js"),
    include_str!("page/head.js"),
    include_str!("page/timeline.js"),
    include_str!("page/chunk.js"),
    include_str!("page/table.js"),
    include_str!("page/main.js"),
];

/// Puts the page together.
pub fn page(data: &Data) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(data)?;
    // Within a script element only these could end it or start a comment.
    let json = json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let outcome = if data.broken.is_empty() { "all promises held" } else { "a promise was broken" };
    let title = format!("Seed {}: {outcome}", data.head.seed);
    // The data goes in last: whatever it says is not looked at again.
    Ok(FRAME
        .replace("{{title}}", &title)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &SCRIPTS.join("\n"))
        .replacen("{{data}}", &json, 1))
}
