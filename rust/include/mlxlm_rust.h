/* C interface of the Rust library: tokenizers, chat templates, grammars.
 *
 * Rules. Text in is UTF-8 as pointer and length (never NUL-terminated); text and
 * numbers out are buffers that the caller frees with mlxlm_buffer_free. A function
 * returning int gives 1 on success; on 0 it has put one line of UTF-8 in *error.
 * Nothing is printed, no callback is taken, no panic crosses this line. Handles may be
 * used from several threads at once as long as nobody frees them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* data;
  size_t size;
} mlxlm_slice;

/* Owned by Rust. `data` may be null when `size` is 0. */
typedef struct {
  uint8_t* data;
  size_t size;
  size_t capacity;
} mlxlm_buffer;

void mlxlm_buffer_free(mlxlm_buffer buffer);

/* ---- tokenizers ------------------------------------------------------------- */

typedef struct mlxlm_tokenizer mlxlm_tokenizer;

/* From the text of a tokenizer.json. */
int mlxlm_tokenizer_from_json(
    mlxlm_slice json, mlxlm_tokenizer** out, mlxlm_buffer* error);

/* A BPE vocabulary as flat arrays; everything is copied. */
typedef struct {
  const mlxlm_slice* tokens; /* index = id */
  size_t token_count;
  const mlxlm_slice* merges; /* "left right", best first; unused with scores */
  size_t merge_count;
  const float* scores; /* one a token, or null: merge by score (SentencePiece BPE) */
  int byte_fallback;   /* unknown characters become <0xNN> tokens */
  int ignore_merges;   /* a word that is a token as a whole is taken as it is */
  int64_t unknown;     /* id of the unknown token, -1 for none */
} mlxlm_bpe;

/* `shell` is a tokenizer.json without its "model". */
int mlxlm_tokenizer_from_bpe(
    mlxlm_slice shell,
    const mlxlm_bpe* bpe,
    mlxlm_tokenizer** out,
    mlxlm_buffer* error);

/* Adds tokens, a list as "added_tokens" of a tokenizer.json; those that are added tokens
 * already stay as they are. Only before the handle is shared. */
int mlxlm_tokenizer_add(
    mlxlm_tokenizer* tokenizer, mlxlm_slice json, mlxlm_buffer* error);

void mlxlm_tokenizer_free(mlxlm_tokenizer* tokenizer);

enum {
  MLXLM_ADD_SPECIAL = 1,    /* what the post-processor adds: BOS, EOS ... */
  MLXLM_SPECIAL_AS_TEXT = 2 /* special tokens written in the text stay text */
};

/* ids: uint32_t values. */
int mlxlm_tokenizer_encode(
    const mlxlm_tokenizer* tokenizer,
    mlxlm_slice text,
    uint32_t flags,
    mlxlm_buffer* ids,
    mlxlm_buffer* error);

/* One text or a pair (`pair` may be null) with all that is known about each token:
 * {"ids":[],"type_ids":[],"special_mask":[],"tokens":[],"offsets":[[begin,end]]},
 * offsets in characters. */
int mlxlm_tokenizer_analyze(
    const mlxlm_tokenizer* tokenizer,
    mlxlm_slice text,
    const mlxlm_slice* pair,
    uint32_t flags,
    mlxlm_buffer* json,
    mlxlm_buffer* error);

int mlxlm_tokenizer_decode(
    const mlxlm_tokenizer* tokenizer,
    const uint32_t* ids,
    size_t count,
    int skip_special,
    mlxlm_buffer* text,
    mlxlm_buffer* error);

/* The token's string as the decoder sees it; 0 when there is no such id. */
int mlxlm_tokenizer_token(
    const mlxlm_tokenizer* tokenizer, uint32_t id, mlxlm_buffer* text);
/* The id of a token's string, -1 when there is none. */
int64_t mlxlm_tokenizer_id(const mlxlm_tokenizer* tokenizer, mlxlm_slice token);
/* Number of tokens, added ones included. */
size_t mlxlm_tokenizer_size(const mlxlm_tokenizer* tokenizer);
/* {"decoder":…,"added_tokens":[{"id","content","special"}]} */
int mlxlm_tokenizer_describe(
    const mlxlm_tokenizer* tokenizer, mlxlm_buffer* json, mlxlm_buffer* error);

/* ---- chat templates (Jinja) -------------------------------------------------- */

typedef struct mlxlm_template mlxlm_template;

int mlxlm_template_compile(
    mlxlm_slice source, mlxlm_template** out, mlxlm_buffer* error);
void mlxlm_template_free(mlxlm_template* compiled);

/* What strftime_now() tells: a local date and time. */
typedef struct {
  int32_t year, month, day, hour, minute, second;
  int32_t microsecond;
} mlxlm_clock;

typedef struct {
  mlxlm_clock now;
  uint64_t fuel;       /* steps of the template machine */
  size_t output_bytes; /* longest rendered text */
  size_t memory_bytes; /* most that rendering allocates, beyond the variables */
} mlxlm_render_options;

/* `variables`: a JSON object. */
int mlxlm_template_render(
    const mlxlm_template* compiled,
    mlxlm_slice variables,
    const mlxlm_render_options* options,
    mlxlm_buffer* text,
    mlxlm_buffer* error);

/* ---- grammars: which tokens may come next -------------------------------------- */

/* The tokens of a vocabulary as bytes. `size`: entries of a row of logits; `eos`: ids
 * that end a text. The tokenizer may be freed. */
typedef struct mlxlm_vocabulary mlxlm_vocabulary;
int mlxlm_vocabulary_new(
    const mlxlm_tokenizer* tokenizer,
    uint32_t size,
    const uint32_t* eos,
    size_t eos_count,
    mlxlm_vocabulary** out,
    mlxlm_buffer* error);
void mlxlm_vocabulary_free(mlxlm_vocabulary* vocabulary);

enum {
  MLXLM_JSON_SCHEMA = 0,
  MLXLM_REGEX = 1, /* the whole text */
  MLXLM_LARK = 2,
  MLXLM_CHOICE = 3 /* a JSON list of strings, one of which is the whole text */
};

typedef struct {
  size_t source_bytes; /* longest source */
  size_t memory_bytes; /* most that compiling allocates */
  uint64_t steps;      /* of building the lexer; about 50 in a microsecond */
} mlxlm_grammar_limits;

/* A grammar and a place in it. One thread at a time. `begins`, unless null: 0 where no
 * token of the vocabulary can begin the text. */
typedef struct mlxlm_matcher mlxlm_matcher;
int mlxlm_matcher_new(
    const mlxlm_vocabulary* vocabulary,
    int32_t kind,
    mlxlm_slice source,
    const mlxlm_grammar_limits* limits,
    mlxlm_matcher** out,
    int32_t* begins,
    mlxlm_buffer* error);
/* Another place, the same for now. */
int mlxlm_matcher_copy(
    const mlxlm_matcher* matcher, mlxlm_matcher** out, mlxlm_buffer* error);
void mlxlm_matcher_free(mlxlm_matcher* matcher);

/* One bit a token, lowest first; `words` of 32 bits are written. At the end of the
 * text only the tokens that end it are allowed. */
int mlxlm_matcher_mask(
    mlxlm_matcher* matcher, uint32_t* mask, size_t words, mlxlm_buffer* error);
/* Goes on behind these tokens; `accepted`: how many of them fit. */
int mlxlm_matcher_accept(
    mlxlm_matcher* matcher,
    const uint32_t* ids,
    size_t count,
    size_t* accepted,
    mlxlm_buffer* error);
/* Takes back the last `count` tokens. */
int mlxlm_matcher_rollback(
    mlxlm_matcher* matcher, size_t count, mlxlm_buffer* error);
/* Tokens that can only come next, as uint32_t values; none when there is a choice. */
int mlxlm_matcher_forced(
    mlxlm_matcher* matcher, mlxlm_buffer* ids, mlxlm_buffer* error);
enum { MLXLM_OPEN = 0, MLXLM_MAY_END = 1, MLXLM_ENDED = 2 };
int mlxlm_matcher_state(
    mlxlm_matcher* matcher, int32_t* state, mlxlm_buffer* error);

/* ---- lines typed on a terminal ---------------------------------------------- */

typedef struct mlxlm_line_editor mlxlm_line_editor;

/* `history`: a file that keeps what was typed, or empty. One thread at a time. */
int mlxlm_line_editor_new(
    mlxlm_slice history, mlxlm_line_editor** out, mlxlm_buffer* error);
void mlxlm_line_editor_free(mlxlm_line_editor* editor);

enum { MLXLM_LINE = 0, MLXLM_LINE_END = 1, MLXLM_LINE_INTERRUPTED = 2 };

/* Shows `prompt` and waits for a line; pasted text may hold several. `line` is set,
 * and to be freed, in any case. */
int mlxlm_line_editor_read(
    mlxlm_line_editor* editor,
    mlxlm_slice prompt,
    int32_t* status,
    mlxlm_buffer* line,
    mlxlm_buffer* error);

/* Adds a line to the history and its file. */
int mlxlm_line_editor_remember(
    mlxlm_line_editor* editor, mlxlm_slice line, mlxlm_buffer* error);

#ifdef __cplusplus
}
#endif
