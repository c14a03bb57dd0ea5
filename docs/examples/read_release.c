/* Reads a viewer's row from a release, with the reader library:
 *
 *     cc docs/examples/read_release.c -I include -L build/release -lmarquee_reader -o read_release
 *     LD_LIBRARY_PATH=build/release ./read_release out/quickstart v0000042
 *
 * A serving tier opens the release once, shares it among its threads, and opens the next one when `current` moves. */
#include <marquee/release.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  mq_release *release = NULL;
  mq_release_viewer viewer;
  uint8_t secret[32], key[MQ_VIEWER_KEY_BYTES];
  char key_file[4096];
  if (argc != 3) {
    fprintf(stderr, "usage: %s OUTPUT VIEWER_ID\n", argv[0]);
    return 64;
  }
  snprintf(key_file, sizeof key_file, "%s/viewer.key", argv[1]);
  mq_status status = mq_release_open(argv[1], &release);
  if (status == MQ_OK)
    status = mq_viewer_key_load(key_file, secret);
  if (status != MQ_OK) {
    fprintf(stderr, "%s: %s\n", argv[0], mq_status_message());
    mq_release_close(release);
    return (int)status;
  }
  mq_viewer_key(secret, argv[2], strlen(argv[2]), key);
  bool is_known = mq_release_find_viewer(release, key, &viewer);
  for (int i = 0; is_known && i < viewer.n; i++) {
    mq_release_title title, because;
    if (!mq_release_title_at(release, viewer.title[i], &title))
      continue;
    printf("%2d  %.4f  %.*s", i + 1, (double)viewer.score[i], (int)title.title.n, title.title.at);
    if (mq_release_title_at(release, viewer.reason_title[i], &because))
      printf("  (because of %.*s)", (int)because.title.n, because.title.at);
    printf("\n");
  }
  if (!is_known)
    fprintf(stderr, "%s: no such viewer in this release\n", argv[2]);
  mq_release_close(release);
  return is_known ? 0 : 66;
}
