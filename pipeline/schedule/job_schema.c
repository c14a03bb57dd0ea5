/* job_schema: the one table of the job file's keys. Parsing, checks, --set, the environment, `marquee config` and
 * docs/job-file.md are all derived from it. To add a key: a field in mq_job, a row here, and
 * `marquee config --markdown > docs/job-file.md`.
 *
 * MQ_JOB_SHAPES_RELEASE marks what another value of which gives another release. Not marked: paths (the digests of
 * what lies there count instead) and how the work is cut, since a release does not depend on its shards. */
#include "pipeline/schedule/job.h"

#include <stddef.h>

enum { SHAPES = MQ_JOB_SHAPES_RELEASE };
#define JOB(field) offsetof(mq_job, field)
#define INPUT(field) offsetof(mq_input, field)

#define TEXT(path, flags, offset, fallback, help)                                                                      \
  { path, MQ_JOB_TEXT, flags, offset, fallback, 0, 0, NULL, help }
#define PATH(path, flags, offset, help)                                                                                \
  { path, MQ_JOB_PATH, flags, offset, NULL, 0, 0, NULL, help }
#define CHOICE(path, flags, offset, fallback, choices, help)                                                           \
  { path, MQ_JOB_CHOICE, flags, offset, fallback, 0, 0, choices, help }
#define INT(path, flags, offset, fallback, low, high, help)                                                            \
  { path, MQ_JOB_INT, flags, offset, fallback, low, high, NULL, help }
#define NUMBER(path, flags, offset, fallback, low, high, help)                                                         \
  { path, MQ_JOB_NUMBER, flags, offset, fallback, low, high, NULL, help }
#define BOOL(path, flags, offset, fallback, help)                                                                      \
  { path, MQ_JOB_BOOL, flags, offset, fallback, 0, 0, NULL, help }
#define COLUMN(path, field, help) TEXT(path, SHAPES, INPUT(field), NULL, help)

#define FORMATS "auto|csv|tsv|jsonl|json|movielens"
#define EVERY_INPUT(list)                                                                                              \
  PATH(list ".path", MQ_JOB_REQUIRED, INPUT(path), "the file (.gz too), or a MovieLens folder"),                       \
      CHOICE(list ".format", SHAPES, INPUT(format), "auto", FORMATS,                                                   \
             "`auto` goes by the ending; a folder is `movielens`"),                                                    \
      BOOL(list ".header", SHAPES, INPUT(has_header), "true",                                                          \
           "CSV, TSV: the first line names the columns; `false`: they are called 1, 2, ..."),                          \
      NUMBER(list ".max_rejected", 0, INPUT(max_rejected), "0.01", 0, 1,                                               \
             "share of rows that may be rejected; above it the run stops with exit code 65")

const mq_job_key mq_job_keys[] = {
    {"name", MQ_JOB_NAME, MQ_JOB_REQUIRED | SHAPES, JOB(name), NULL, 0, 0, NULL,
     "the job's name: `a-z`, `0-9` and `-`, at most 63"},

    EVERY_INPUT("inputs.titles[]"),
    TEXT("inputs.titles[].list_separator", SHAPES, INPUT(list_separator), ",",
         "between the entries of genres, cast, country, director in one field"),
    TEXT("inputs.titles[].default_kind", SHAPES, INPUT(default_kind), "movie", "kind of a title that names none"),
    COLUMN("inputs.titles[].columns.id", title.id, "column (CSV, TSV) or member (JSON) with the title's id"),
    COLUMN("inputs.titles[].columns.title", title.title, "its name"),
    COLUMN("inputs.titles[].columns.year", title.year, "year of release"),
    COLUMN("inputs.titles[].columns.kind", title.kind, "movie, series, ..."),
    COLUMN("inputs.titles[].columns.genres", title.genres, "list"),
    COLUMN("inputs.titles[].columns.country", title.country, "list"),
    COLUMN("inputs.titles[].columns.cast", title.cast, "list"),
    COLUMN("inputs.titles[].columns.director", title.director, "list"),
    COLUMN("inputs.titles[].columns.maturity", title.maturity, "age limit in years, or a rating such as PG-13"),
    COLUMN("inputs.titles[].columns.language", title.language, "language"),
    COLUMN("inputs.titles[].columns.released", title.released, "date of release (YYYY-MM-DD): not shown before"),
    COLUMN(
        "inputs.titles[].columns.windows", title.windows,
        "licence windows, a list: `US:2024-01-01..2026-12-31`, either date may be missing; in JSON also objects with "
        "`region`, `from`, `to`"),
    COLUMN("inputs.titles[].columns.synopsis", title.synopsis, "synopsis"),
    COLUMN("inputs.titles[].columns.runtime", title.runtime, "minutes"),

    EVERY_INPUT("inputs.histories[]"),
    NUMBER("inputs.histories[].max_unknown", 0, INPUT(max_unknown), "0.05", 0, 1,
           "share of events whose title is not in the catalog (or the map); above it the run stops with exit code 65"),
    COLUMN("inputs.histories[].columns.viewer", history.viewer, "column or member with the viewer's id"),
    COLUMN("inputs.histories[].columns.title", history.title, "the title's id"),
    COLUMN("inputs.histories[].columns.time", history.time,
           "when: Unix seconds, or YYYY-MM-DD with or without `THH:MM:SS` (UTC without a zone)"),
    COLUMN("inputs.histories[].columns.rating", history.rating, "a rating from 0 on, any scale; may be empty"),
    PATH("inputs.histories[].map.path", 0, INPUT(map.path),
         "CSV or TSV that translates the history's title ids to the catalog's"),
    TEXT("inputs.histories[].map.from", SHAPES, INPUT(map.from), NULL, "its column with the history's ids"),
    TEXT("inputs.histories[].map.to", SHAPES, INPUT(map.to), NULL, "its column with the catalog's ids"),

    EVERY_INPUT("inputs.viewers[]"),
    COLUMN("inputs.viewers[].columns.id", viewer.id, "column or member with the viewer's id"),
    COLUMN("inputs.viewers[].columns.region", viewer.region, "region, for licence windows"),
    COLUMN("inputs.viewers[].columns.max_maturity", viewer.max_maturity, "age limit of the profile, in years"),

    PATH("privacy.viewer_key", 0, JOB(privacy.viewer_key),
         "file with 64 hex digits, the key that viewer ids are hashed with; without one: `OUTPUT/viewer.key`, made on "
         "first use"),

    TEXT("device.backend", 0, JOB(device.backend), "auto",
         "`cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where a device answers, else the CPU; which one it was is part of "
         "what "
         "determines a release"),
    NUMBER("device.gpu_memory_utilization", 0, JOB(device.gpu_memory_utilization), "0.9", 0.05, 1,
           "share of the GPU's free memory that the workers on it take together"),
    NUMBER("device.dollars_per_hour", 0, JOB(device.dollars_per_hour), "0", 0, 1e6,
           "price of the machine, for `marquee bench`; 0: not said"),

    PATH("models.encoder.path", MQ_JOB_REQUIRED, JOB(encoder.path), "folder of the encoder, as a model hub gives it"),
    CHOICE("models.encoder.dtype", SHAPES, JOB(encoder.dtype), "auto", "auto|float32|bfloat16|int8|float8_e4m3",
           "type of the weights; `auto` is float32 on the CPU, whose vectors have the same bits on every one, and "
           "bfloat16 on CUDA; float32 and int8 are for CPUs, float8_e4m3 for GPUs from compute capability 8.9"),
    INT("models.encoder.max_model_len", SHAPES, JOB(encoder.max_model_len), "0", 0, 131072,
        "tokens of a text at most; 0: what the model says"),
    TEXT("models.encoder.document_prompt", SHAPES, JOB(encoder.document_prompt), "",
         "put in front of every title's text, e.g. `\"passage: \"` for E5"),
    TEXT("models.encoder.query_prompt", SHAPES, JOB(encoder.query_prompt), "",
         "put in front of search queries, e.g. `\"query: \"`"),

    TEXT("stages.embed.text", SHAPES, JOB(embed.text), "{title} ({year}). {genres}. {synopsis}",
         "what is embedded of a title; names of its fields in braces"),
    BOOL("stages.embed.passages", SHAPES, JOB(embed.passages), "false",
         "a text longer than the model's window: `true` takes the mean of its passages, `false` its beginning"),
    INT("stages.embed.max_passages", SHAPES, JOB(embed.max_passages), "16", 1, 1024, "passages of a text at most"),
    INT("stages.embed.shard_titles", 0, JOB(embed.shard_titles), "0", 0, 1e6,
        "titles of a shard at most; 0: 512 on the CPU, 16384 on CUDA"),
    INT("stages.embed.batch_tokens", 0, JOB(embed.batch_tokens), "0", 0, 1048576,
        "tokens packed into one pass; 0: 2048 on the CPU, 65536 on CUDA; halved when the device's memory is too small"),

    NUMBER("stages.profile.recency_half_life", SHAPES, JOB(profile.recency_half_life), "5", 0.01, 1e6,
           "steps of the history after which a title counts half"),
    NUMBER("stages.profile.rating_weight", SHAPES, JOB(profile.rating_weight), "0.5", 0, 100,
           "how strongly a rating above or below the viewer's mean counts; 0: not at all"),
    INT("stages.profile.max_interests", SHAPES, JOB(profile.max_interests), "3", 1, 16, "vectors of a viewer at most"),
    INT("stages.profile.max_history", SHAPES, JOB(profile.max_history), "200", 1, 100000, "the last titles that count"),
    INT("stages.profile.shard_viewers", 0, JOB(profile.shard_viewers), "16384", 1, 100e6,
        "viewers of a shard, in profile and match alike"),

    INT("stages.match.top_k", SHAPES, JOB(match.top_k), "20", 1, 1000, "titles published per viewer"),
    INT("stages.match.candidates", SHAPES, JOB(match.candidates), "200", 1, 10000,
        "candidates kept of each source; at least `top_k`"),
    NUMBER("stages.match.rules.gap_power", SHAPES, JOB(match.rules_gap_power), "0.5", 0, 10,
           "two titles `gap` steps apart in a history add gap^-power to their rule"),
    NUMBER("stages.match.rules.backward", SHAPES, JOB(match.rules_backward), "0.7", 0, 10,
           "factor for the later title of the two pointing back to the earlier"),
    NUMBER("stages.match.rules.damp_a", SHAPES, JOB(match.rules_damp_a), "10", 0, 1e9,
           "a rule a -> b is divided by (n_a + damp_a), n counting viewers"),
    NUMBER("stages.match.rules.damp_b", SHAPES, JOB(match.rules_damp_b), "10", 0, 1e9,
           "and by (n_b + damp_b)^damp_power"),
    NUMBER("stages.match.rules.damp_power", SHAPES, JOB(match.rules_damp_power), "0.4", 0, 10, "see `damp_b`"),
    NUMBER("stages.match.rules.decay", SHAPES, JOB(match.rules_decay), "2", 0.01, 1e6,
           "a viewer's title `steps` back counts exp(-steps/decay)"),
    INT("stages.match.rules.max_gap", SHAPES, JOB(match.rules_max_gap), "30", 1, 10000,
        "steps between the two titles at most"),
    INT("stages.match.rules.neighbours", SHAPES, JOB(match.rules_neighbours), "200", 1, 100000, "rules kept per title"),
    NUMBER("stages.match.popularity_half_life_days", SHAPES, JOB(match.popularity_half_life_days), "90", 0.01, 1e6,
           "days after which a view counts half in recent popularity"),
    NUMBER("stages.match.calibration", SHAPES, JOB(match.calibration), "0.3", 0, 1,
           "pull of the rows towards the genres of the history (Steck 2018); 0: off"),
    NUMBER("stages.match.diversity", SHAPES, JOB(match.diversity), "0.7", 0, 1,
           "weight of the score against likeness to what is chosen (MMR); 1: off"),
    NUMBER("stages.match.long_tail", SHAPES, JOB(match.long_tail), "0.05", 0, 10, "bonus for little-watched titles"),
    BOOL("stages.match.fit", SHAPES, JOB(match.fit), "true",
         "fit the blend of the sources on a held-back step of these histories; `false`: built-in weights"),
    INT("stages.match.min_history", SHAPES, JOB(match.min_history), "1", 0, 1000,
        "viewers with fewer titles get the default row"),
    INT("stages.match.default_maturity", SHAPES, JOB(match.default_maturity), "18", 0, 99,
        "age limit of viewers for whom none is given"),

    PATH("output.path", MQ_JOB_REQUIRED, JOB(output.path), "output folder: `runs/`, `releases/`, `current`"),
    INT("output.part_viewers", SHAPES, JOB(output.part_viewers), "262144", 1, 100e6,
        "viewers of a part of the release"),
};
const int mq_n_job_keys = MQ_COUNT(mq_job_keys);

const mq_job_list mq_job_lists[] = {
    {"inputs.titles[]", true, JOB(titles), JOB(n_titles), sizeof(mq_input)},
    {"inputs.histories[]", false, JOB(histories), JOB(n_histories), sizeof(mq_input)},
    {"inputs.viewers[]", false, JOB(viewers), JOB(n_viewers), sizeof(mq_input)},
};
const int mq_n_job_lists = MQ_COUNT(mq_job_lists);
