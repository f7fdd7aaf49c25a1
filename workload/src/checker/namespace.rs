//! After healing, every user's files are in a state that the answers allowed (invariant 2).

use cairn_core::error::ClientError;

use super::durability;
use crate::content::Content;
use crate::generate::home;
use crate::model::Model;
use crate::operation::{Operation, Outcome};
use crate::perform::{Caller, list, perform};
use crate::tree::Node;
use crate::violation::Violations;

const NAME: &str = "namespace";

/// Checks what belongs to `user`. Nothing else may be under way.
pub async fn check<C: Caller>(client: &C, user: usize, model: &mut Model, violations: &Violations) {
    // A file that must be there is looked for by itself first: its loss is worth more than a difference of listings.
    durability::check(client, model, violations).await;
    match walk(client, &home(user)).await {
        Ok(found) => {
            if let Err(text) = model.settle(&found) {
                violations.add(NAME, format!("user {user}: {text}"));
            }
        }
        Err(text) => violations.add(NAME, format!("user {user} can't be listed: {text}")),
    }
}

/// Everything at and below `root`, files with the contents that reading them shows.
async fn walk<C: Caller>(client: &C, root: &str) -> Result<Vec<(String, Node)>, String> {
    let mut found = Vec::new();
    match list(client, root).await {
        Ok(_) => found.push((root.to_owned(), Node::Directory)),
        Err(ClientError::Master(cairn_core::error::MasterError::NotFound(_))) => return Ok(found),
        Err(error) => return Err(format!("{root}: {error}")),
    }
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let names = list(client, &directory).await.map_err(|error| format!("{directory}: {error}"))?;
        for (name, is_directory, length) in names {
            let path = format!("{directory}/{name}");
            if is_directory {
                directories.push(path.clone());
                found.push((path, Node::Directory));
            } else {
                let content = identify(client, &path, length).await?;
                found.push((path, Node::File(content)));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Which content a file has. Files too short to say so are told apart by the model alone, by their length.
async fn identify<C: Caller>(client: &C, path: &str, length: u64) -> Result<Content, String> {
    match perform(client, &Operation::Get { path: path.to_owned() }).await {
        Outcome::Read { content: Some(content), .. } => Ok(content),
        Outcome::Read { length: read, content: None, .. } if read == length => {
            Ok(Content { number: 0, length: length as u32 })
        }
        other => Err(format!("{path}: {}", short(&other))),
    }
}

/// An outcome, in as many words as a violation takes.
pub fn short(outcome: &Outcome) -> String {
    let mut text = format!("{outcome:?}");
    text.truncate(text.floor_char_boundary(400));
    text
}
