//! Writes down what a model answers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use super::recording::{Answered, Exchange};
use crate::files::{self, FileError};
use crate::llm::ChatModel;
use crate::llm::error::{ChatError, Trouble};
use crate::llm::message::{Answer, ChatRequest, Delta};

/// A model whose answers are appended to a recording, each with what it answered.
///
/// What is in the conversation is in the recording: whoever wants no secrets in it takes them out of the messages. Requests
/// that get no answer are not recorded.
pub(crate) struct Recorder {
    /// Who answers.
    model: Box<dyn ChatModel>,
    /// The recording, open for appending.
    file: File,
    /// For messages.
    path: PathBuf,
    /// The folder in which the tools work.
    cwd: String,
    /// Whether the last line may lack its end.
    torn: bool,
}

impl Recorder {
    /// Records what `model` answers into `path`, behind what is there. `cwd` is the folder in which the tools work.
    pub(crate) fn new(model: Box<dyn ChatModel>, path: &Path, cwd: &Path) -> Result<Self, FileError> {
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        let file = files::open_log(path)?;
        let torn = ends_torn(path).map_err(FileError::on("read", path))?;
        Ok(Self { model, file, path: path.to_owned(), cwd: cwd.display().to_string(), torn })
    }

    /// Appends one exchange in one write.
    fn append(&mut self, request: &ChatRequest<'_>, answer: &Answer) -> Result<(), ChatError> {
        let answered =
            Answered { model: &answer.model, blocks: &answer.blocks, stop: &answer.stop, usage: answer.usage };
        let exchange = Exchange::new(request.messages, answered, &self.cwd);
        let mut line = if self.torn { vec![b'\n'] } else { Vec::new() };
        let written = serde_json::to_writer(&mut line, &exchange).map_err(std::io::Error::from).and_then(|()| {
            line.push(b'\n');
            self.file.write_all(&line)
        });
        self.torn = written.is_err();
        written.map_err(|error| ChatError {
            model: answer.model.clone(),
            trouble: Trouble::BadRequest,
            message: format!("its answer could not be recorded in `{}`", self.path.display()),
            hint: None,
            source: Some(Box::new(error)),
        })
    }
}

/// Whether a file's last byte is not the end of a line.
fn ends_torn(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

impl ChatModel for Recorder {
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(async move {
            let answer = self.model.chat(request, on_delta).await?;
            self.append(request, &answer)?;
            Ok(answer)
        })
    }

    fn context_window(&self) -> Option<u64> {
        self.model.context_window()
    }

    fn name(&self) -> String {
        self.model.name()
    }
}
