//! Lines typed on a terminal: editing keys, history, pasted blocks (rustyline).
use crate::ffi::{guard, Buffer, Slice};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use std::path::PathBuf;

pub struct LineEditor {
    editor: Editor<(), DefaultHistory>,
    history: Option<PathBuf>,
}

const LINE: i32 = 0;
const END: i32 = 1;
const INTERRUPTED: i32 = 2;

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_line_editor_new(
    history: Slice,
    out: *mut *mut LineEditor,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let path = history.text()?;
        let config = Config::builder()
            .max_history_size(1000)
            .map_err(|e| e.to_string())?
            .history_ignore_space(true)
            .bracketed_paste(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(|e| e.to_string())?;
        let history = (!path.is_empty()).then(|| PathBuf::from(path));
        if let Some(file) = &history {
            // No history yet, or none that can be read: begin with an empty one.
            let _ = editor.load_history(file);
        }
        Ok(Box::into_raw(Box::new(LineEditor { editor, history })))
    })
}

/// # Safety
/// `editor` came from `mlxlm_line_editor_new` and is freed once.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_line_editor_free(editor: *mut LineEditor) {
    if !editor.is_null() {
        drop(Box::from_raw(editor));
    }
}

/// # Safety
/// See the header; no other thread uses `editor` meanwhile.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_line_editor_read(
    editor: *mut LineEditor,
    prompt: Slice,
    status: *mut i32,
    line: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    let mut text = String::new();
    let ok = guard(status, error, || {
        let this = &mut *editor;
        match this.editor.readline(prompt.text()?) {
            Ok(typed) => {
                text = typed;
                Ok(LINE)
            }
            Err(ReadlineError::Eof) => Ok(END),
            Err(ReadlineError::Interrupted) => Ok(INTERRUPTED),
            Err(other) => Err(other.to_string()),
        }
    });
    line.write(text.into());
    ok
}

/// # Safety
/// See the header; no other thread uses `editor` meanwhile.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_line_editor_remember(
    editor: *mut LineEditor,
    line: Slice,
    error: *mut Buffer,
) -> i32 {
    let mut done = ();
    guard(&mut done, error, || {
        let this = &mut *editor;
        this.editor.add_history_entry(line.text()?).map_err(|e| e.to_string())?;
        if let Some(file) = &this.history {
            this.editor.append_history(file).map_err(|e| e.to_string())?;
        }
        Ok(())
    })
}
