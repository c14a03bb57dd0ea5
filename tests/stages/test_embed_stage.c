/* test_embed_stage: titles to vectors: the text template, the columns it leaves behind, and that neither shards nor
 * their order change a bit. */
#include "import_bed.h"
#include "marquee/encoder.h"
#include "pipeline/base/half.h"
#include "pipeline/stages/embed.h"

static const char TITLES[] = "id,title,year,genres,cast,synopsis\n"
                             "a,The Old King,1950,\"Drama,Love\",\"Ann Sea,Bob Night\",A love story.\n"
                             "b,Robots,,,,Two robots and a heist in the desert.\n"
                             "c,Night,1999,Crime,,\n"
                             "d,Sea,2001,\"Drama,Crime\",Cy King,The sea and the city and the night and the young "
                             "woman and the old man and more.\n";
static const char HISTORY[] = "viewer,title,time\nu,a,2020-01-01\n";

static void open_bed(bed *b) {
  bed_open(b);
  b->job.encoder.path = MQ_SOURCE_DIR "/tests/models/tiny-bert";
  b->job.encoder.dtype = "auto";
  b->job.embed.text = "{title} ({year}). {genres}. {synopsis}";
  b->job.embed.shard_titles = 512;
  bed_titles(b, bed_text(b, "titles.csv", TITLES));
  bed_histories(b, bed_text(b, "history.csv", HISTORY));
  bed_run_good(b);
}

static void start_backend(bed *b) {
  b->context.ops = mq_ops_cpu();
  assert_int_equal(b->context.ops->open(&(mq_backend_options){.n_threads = 2}, &b->context.backend), MQ_OK);
}

static void stop_backend(bed *b) {
  mq_embed_close();
  b->context.ops->close(b->context.backend);
}

static void assert_title_text(const bed *b, const char *template, int64_t i, const char *expected) {
  mq_buffer text = {0};
  assert_int_equal(mq_embed_template_check(template), MQ_OK);
  mq_embed_template_fill(template, &b->title_table, i, &text);
  assert_string_equal(text.at ? text.at : "", expected);
  mq_buffer_free(&text);
}

static void the_template_puts_facts_in_and_leaves_empty_ones_out(void **state) {
  (void)state;
  bed b;
  open_bed(&b);
  static const char DEFAULT[] = "{title} ({year}). {genres}. {synopsis}";
  assert_title_text(&b, DEFAULT, 0, "The Old King (1950). Drama, Love. A love story.");
  assert_title_text(&b, DEFAULT, 1, "Robots. Two robots and a heist in the desert.");
  assert_title_text(&b, DEFAULT, 2, "Night (1999). Crime. ");
  assert_title_text(&b, "{cast}: {title} {{{kind}}}", 0, "Ann Sea, Bob Night: The Old King {movie}");
  assert_title_text(&b, "{cast}: {title} [{year}] {id}", 1, "Robots b");
  assert_title_text(&b, "", 0, "");
  bed_close(&b);
}

static void a_wrong_template_is_refused_with_the_closest_field(void **state) {
  (void)state;
  assert_int_equal(mq_embed_template_check("{title} {sinopsis}"), MQ_CONFIG);
  assert_non_null(strstr(mq_status_message(), "did you mean {synopsis}?"));
  assert_int_equal(mq_embed_template_check("{title"), MQ_CONFIG);
  assert_int_equal(mq_embed_template_check("title}"), MQ_CONFIG);
  assert_int_equal(mq_embed_template_check("{}"), MQ_CONFIG);
  assert_int_equal(mq_embed_template_check("{{}} {title}"), MQ_OK);
}

static void vectors_and_tokens_are_those_of_the_texts(void **state) {
  (void)state;
  bed b;
  open_bed(&b);
  start_backend(&b);
  if (bed_stage(&b, "embed", mq_embed_plan, mq_embed_run) != MQ_OK)
    fail_msg("%s", mq_status_message());
  mq_artifact *artifact;
  mq_encoder *encoder;
  int64_t dims[2];
  const void *halves, *n_tokens;
  char *text;
  assert_int_equal(mq_shard_open(&b.context, "embed", 0, &artifact), MQ_OK);
  assert_int_equal(mq_artifact_column(artifact, "embed/vector", MQ_F16, 2, dims, &halves), MQ_OK);
  assert_true(dims[0] == 4 && dims[1] == 16);
  assert_int_equal(mq_artifact_column(artifact, "embed/n_tokens", MQ_I32, 1, dims, &n_tokens), MQ_OK);
  assert_int_equal(mq_encoder_open(b.job.encoder.path,
                                   &(mq_encoder_options){.ops = b.context.ops, .backend = b.context.backend}, &encoder),
                   MQ_OK);
  for (int64_t i = 0; i < 4; i++) {
    mq_buffer title = {0};
    float vector[16];
    int32_t n;
    mq_embed_stats stats = {.text_tokens = &n};
    mq_embed_template_fill(b.job.embed.text, &b.title_table, i, &title);
    const char *at = title.at;
    assert_int_equal(mq_encoder_embed(encoder, 1, &at, &title.n, NULL, vector, NULL, &stats), MQ_OK);
    for (int c = 0; c < 16; c++)
      assert_int_equal(mq_half_of_float(vector[c]), ((const uint16_t *)halves)[i * 16 + c]);
    assert_int_equal(n, ((const int32_t *)n_tokens)[i]);
    mq_buffer_free(&title);
  }
  assert_int_equal(mq_artifact_get_text(artifact, "", "model_digest", &text), MQ_OK);
  assert_string_equal(text, mq_encoder_digest(encoder));
  free(text);
  assert_int_equal(mq_artifact_get_text(artifact, "", "model", &text), MQ_OK);
  assert_string_equal(text, "tiny-bert");
  free(text);
  mq_encoder_close(encoder);
  mq_artifact_close(artifact);
  stop_backend(&b);
  bed_close(&b);
}

static void shards_do_not_change_a_bit(void **state) {
  (void)state;
  bed b;
  open_bed(&b);
  start_backend(&b);
  uint16_t whole[4 * 16];
  for (int shard_titles = 4; shard_titles >= 1; shard_titles--) {
    b.job.embed.shard_titles = shard_titles;
    mq_shard_plan plan = {0};
    assert_int_equal(mq_embed_plan(&b.context, &plan), MQ_OK);
    assert_int_equal(plan.n, (4 + shard_titles - 1) / shard_titles);
    char *folder = mq_path_join(b.folder, "out"), *path = mq_path_join(folder, "part.h5");
    assert_int_equal(mq_make_folders(folder), MQ_OK);
    for (int s = plan.n - 1; s >= 0; s--) { /* the last first */
      mq_shard_figures figures;
      mq_artifact *artifact;
      int64_t dims[2];
      const void *halves;
      assert_true(plan.shards[s].cost > 0);
      assert_int_equal(mq_embed_run(&b.context, s, &plan.shards[s], path, NULL, &figures), MQ_OK);
      assert_int_equal(figures.n_rows, plan.shards[s].last - plan.shards[s].first);
      assert_int_equal(mq_artifact_open(path, &artifact), MQ_OK);
      assert_int_equal(mq_artifact_column(artifact, "embed/vector", MQ_F16, 2, dims, &halves), MQ_OK);
      if (shard_titles == 4)
        memcpy(whole, halves, sizeof whole);
      else
        assert_memory_equal(whole + plan.shards[s].first * 16, halves, (size_t)dims[0] * 32);
      mq_artifact_close(artifact);
    }
    free(plan.shards);
    free(path);
    free(folder);
  }
  stop_backend(&b);
  bed_close(&b);
}

int main(void) {
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_template_puts_facts_in_and_leaves_empty_ones_out),
      cmocka_unit_test(a_wrong_template_is_refused_with_the_closest_field),
      cmocka_unit_test(vectors_and_tokens_are_those_of_the_texts),
      cmocka_unit_test(shards_do_not_change_a_bit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
