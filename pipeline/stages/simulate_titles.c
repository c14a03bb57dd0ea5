/* simulate_titles: the simulator's catalog, from a file or invented.
 *
 * Invented titles are sentences put together from the word lists below, by genre, so that an encoder finds something to
 * tell them apart by; one in twelve is the sequel of an earlier one. They are written out as they are made. */
#include "pipeline/stages/simulate_catalog.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- from a file ---- */

static mq_str text_of(const json_t *value) {
  return json_is_string(value) ? (mq_str){json_string_value(value), json_string_length(value)} : (mq_str){"", 0};
}

static int list_of(const json_t *value, mq_str *items, int n_max) {
  int n = 0;
  size_t i;
  const json_t *item;
  json_array_foreach(value, i, item) if (n < n_max && json_is_string(item)) items[n++] = text_of(item);
  return n;
}

static mq_status windows_of(const json_t *windows, title_facts *facts) {
  size_t i;
  const json_t *item;
  json_array_foreach(windows, i, item) {
    mq_str region = text_of(json_object_get(item, "region"));
    const json_t *from = json_object_get(item, "from"), *to = json_object_get(item, "to");
    int32_t from_day = INT32_MIN, to_day = INT32_MAX; /* a missing end is open */
    if (region.n == 0 || (from && !mq_parse_date(text_of(from), &from_day)) ||
        (to && !mq_parse_date(text_of(to), &to_day)))
      return mq_fail(MQ_DATA, "member \"windows\": entry %zu needs \"region\" and dates as YYYY-MM-DD", i + 1);
    if (facts->n_windows == FACTS_WINDOWS_MAX)
      return mq_fail(MQ_DATA, "member \"windows\" has more than %d entries", FACTS_WINDOWS_MAX);
    facts->windows[facts->n_windows].region = region;
    facts->windows[facts->n_windows].from = from_day;
    facts->windows[facts->n_windows++].to = to_day;
  }
  return MQ_OK;
}

static mq_status row_facts(const json_t *row, title_facts *facts) {
  const json_t *year = json_object_get(row, "year"), *maturity = json_object_get(row, "maturity");
  const json_t *released = json_object_get(row, "released");
  *facts = (title_facts){.id = text_of(json_object_get(row, "id")),
                         .title = text_of(json_object_get(row, "title")),
                         .language = text_of(json_object_get(row, "language")),
                         .released = INT32_MIN};
  if (facts->id.n == 0 || facts->title.n == 0)
    return mq_fail(MQ_DATA, "a title needs \"id\" and \"title\"");
  if (!json_is_integer(year) || json_integer_value(year) < 1800 || json_integer_value(year) > 9000)
    return mq_fail(MQ_DATA, "member \"year\" is no year");
  facts->year = (int32_t)json_integer_value(year);
  if (maturity && (!json_is_integer(maturity) || json_integer_value(maturity) < 0 || json_integer_value(maturity) > 99))
    return mq_fail(MQ_DATA, "member \"maturity\" is no age from 0 to 99");
  facts->maturity = (uint8_t)json_integer_value(maturity);
  if (released && !mq_parse_date(text_of(released), &facts->released))
    return mq_fail(MQ_DATA, "member \"released\" is no date as YYYY-MM-DD");
  facts->n_genres = list_of(json_object_get(row, "genres"), facts->genres, FACTS_GENRES_MAX);
  facts->n_people = list_of(json_object_get(row, "director"), facts->people, 2);
  facts->n_people += list_of(json_object_get(row, "cast"), facts->people + facts->n_people, FACTS_PEOPLE_MAX - 2);
  return windows_of(json_object_get(row, "windows"), facts);
}

mq_status catalog_read(catalog *titles, const char *path) {
  mq_status status = MQ_OK;
  char *line = NULL;
  size_t capacity = 0;
  ssize_t n_bytes;
  long long n_lines = 0;
  mq_dictionary ids = {0};
  FILE *file = fopen(path, "r");
  if (!file)
    return mq_fail_errno(MQ_IO, "%s", path);
  while ((n_bytes = getline(&line, &capacity, file)) >= 0) {
    json_error_t error;
    title_facts facts = {0};
    bool is_new;
    n_lines++;
    if (mq_str_trim((mq_str){line, (size_t)n_bytes}).n == 0)
      continue;
    json_t *row = json_loadb(line, (size_t)n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!row) {
      status = mq_fail(MQ_DATA, "%s:%lld: not valid JSON: %s", path, n_lines, error.text);
      goto done;
    }
    if (titles->n == INT32_MAX) /* titles are numbered by int32 everywhere */
      status = mq_fail(MQ_DATA, "too many titles");
    else
      status = row_facts(row, &facts);
    if (status == MQ_OK) {
      mq_dictionary_add(&ids, facts.id, &is_new);
      if (is_new)
        catalog_add(titles, &facts);
      else
        status = mq_fail(MQ_DATA, "the id \"%.*s\" has been used before", (int)facts.id.n, facts.id.at);
    }
    json_decref(row);
    if (status != MQ_OK) {
      mq_fail_within(status, "%s:%lld", path, n_lines);
      goto done;
    }
  }
  if (ferror(file))
    status = mq_fail_errno(MQ_IO, "%s: reading line %lld failed", path, n_lines + 1);
  else if (titles->n == 0)
    status = mq_fail(MQ_DATA, "%s: no titles in it: expected one JSON object a line", path);
done:
  mq_dictionary_free(&ids);
  free(line);
  fclose(file);
  return status;
}

/* ---- invented ---- */

enum { N_WORDS = 4 };
static const struct {
  const char *name;
  int weight, maturity[2]; /* how common; the lowest and highest age */
  const char *hero[N_WORDS], *deed[N_WORDS], *noun[N_WORDS];
} genres[] = {
    {"Drama",
     20,
     {6, 16},
     {"a widowed teacher", "a young doctor", "a fisherman's son", "an ageing pianist"},
     {"comes home to sell the family house", "hides a letter from two sisters", "looks after a stranger's child",
      "fights to keep a village school open"},
     {"Summer", "House", "Letter", "Promise"}},
    {"Comedy",
     14,
     {0, 12},
     {"an unlucky waiter", "a wedding planner", "a jealous baker", "a retired magician"},
     {"is mistaken for a minister", "must share a tiny flat with the in-laws", "loses the ring an hour too early",
      "enters a talent show by accident"},
     {"Holiday", "Wedding", "Neighbours", "Mistake"}},
    {"Thriller",
     10,
     {12, 18},
     {"a court stenographer", "a night porter", "a tired negotiator", "an insurance clerk"},
     {"overhears a plan to kill", "finds a stranger's passport with the wrong face", "has one hour to find the caller",
      "is followed through an empty city"},
     {"Witness", "Silence", "Night", "Caller"}},
    {"Romance",
     9,
     {0, 12},
     {"a translator", "a florist", "a ship's engineer", "a former classmate"},
     {"falls in love by letter", "misses the same train each evening", "agrees to a marriage of convenience",
      "meets again after twenty years"},
     {"Kiss", "Heart", "Train", "Spring"}},
    {"Action",
     8,
     {12, 18},
     {"a disgraced bodyguard", "an undercover driver", "a former boxer", "a bomb disposal officer"},
     {"has to cross the city before dawn", "protects the only witness", "takes on a private army",
      "breaks into a guarded tower"},
     {"Strike", "Fury", "Target", "Escape"}},
    {"Crime",
     7,
     {12, 18},
     {"a small-town sheriff", "a forger", "a homicide detective", "a safe-cracker out of prison"},
     {"reopens an old murder case", "plans one last robbery of a desert casino", "is betrayed by the gang",
      "hunts a killer who leaves chess pieces"},
     {"Heist", "Alibi", "Verdict", "Gang"}},
    {"Horror",
     6,
     {16, 18},
     {"a babysitter", "an exchange student", "a lighthouse keeper", "a grieving couple"},
     {"hears steps in the sealed attic", "wakes something under the lake", "buys a house with a locked cellar",
      "finds a diary that writes itself"},
     {"Cellar", "Curse", "Shadow", "Lake"}},
    {"Science Fiction",
     6,
     {6, 16},
     {"a lonely pilot", "a robot mechanic", "the crew of a mining ship", "a clone"},
     {"answers a signal from a dead moon", "travels back to a single day", "wakes eighty years too early",
      "teaches a machine to dream"},
     {"Orbit", "Signal", "Colony", "Machine"}},
    {"Documentary",
     5,
     {0, 12},
     {"a film crew", "a marine biologist", "a mountaineer", "a jazz band"},
     {"follows whales along the ice", "spends a year with the last nomads", "climbs without ropes",
      "looks back on sixty years on the road"},
     {"Ocean", "Journey", "Mountain", "Voices"}},
    {"Animation",
     5,
     {0, 6},
     {"a timid dragon", "a paper boat", "a clever fox", "a toy robot"},
     {"sets out to find the sea", "learns to fly before winter", "must save the forest school",
      "gets lost in a department store"},
     {"Dragon", "Star", "Forest", "Toy"}},
    {"Family",
     4,
     {0, 6},
     {"a girl and her pony", "a twin brother", "a grandfather", "a runaway dog"},
     {"finds a map behind the clock", "spends the holidays on an island", "wins a race nobody believed in",
      "brings the whole street together"},
     {"Island", "Pony", "Secret", "Christmas"}},
    {"Fantasy",
     4,
     {0, 12},
     {"a young witch", "a blacksmith's daughter", "an exiled prince", "a thief with a map"},
     {"must return a stolen crown", "finds a door into winter", "is bound to a talking sword",
      "bargains with the king of the deep"},
     {"Crown", "Sword", "Tower", "Witch"}},
    {"War",
     3,
     {12, 18},
     {"a field nurse", "a deserter", "a submarine crew", "a radio operator"},
     {"is caught behind the lines", "holds a bridge for one more night", "carries a message through the snow",
      "refuses an order"},
     {"Bridge", "Front", "Trench", "Convoy"}},
    {"Western",
     2,
     {12, 16},
     {"a retired gunman", "a rancher's widow", "a bounty hunter", "a preacher"},
     {"defends a waterhole", "rides after the men who burned the farm", "brings a prisoner through the desert",
      "stands alone against the railway"},
     {"Canyon", "Rider", "Gold", "Dust"}},
    {"Musical",
     2,
     {0, 6},
     {"a chorus girl", "a street singer", "a shy composer", "a dancing postman"},
     {"gets the lead for one night", "sings a theatre back to life", "writes a show for the girl next door",
      "teaches the town to dance"},
     {"Melody", "Stage", "Song", "Dance"}},
    {"Sports",
     2,
     {0, 12},
     {"a benched goalkeeper", "a village cricket team", "an injured swimmer", "a young boxer"},
     {"has one season to come back", "challenges the champions", "trains in secret", "runs for a brother who cannot"},
     {"Match", "Season", "Ring", "Final"}},
};
static const char *const adjectives[] = {"Last",    "Silent", "Golden", "Broken", "Hidden", "Long",
                                         "Second",  "Red",    "Winter", "Lost",   "Quiet",  "Burning",
                                         "Distant", "First",  "Blue",   "Paper"};
static const char *const places[] = {"Lisbon",  "Kyoto",  "Bahia",  "Naples",  "Chicago", "Jaipur", "Hamburg", "Oslo",
                                     "Tangier", "Warsaw", "Havana", "Nairobi", "Seoul",   "Dublin", "Texas",   "Goa"};
static const char *const first_names[] = {"Ana",  "Jonas", "Mira",  "Kenji", "Lucia", "Omar",  "Ines", "Pavel",
                                          "Ruth", "Diego", "Aiko",  "Hugo",  "Leila", "Tomas", "Vera", "Arjun",
                                          "Nora", "Felix", "Priya", "Sven",  "Clara", "Mateo", "Yuki", "Bruno"};
static const char *const last_names[] = {"Almeida", "Berg",   "Castro", "Duarte",  "Eriksen", "Fontana",
                                         "Garcia",  "Hansen", "Ito",    "Jansen",  "Kapoor",  "Lindner",
                                         "Moreau",  "Nakata", "Okafor", "Pereira", "Quist",   "Rossi",
                                         "Sato",    "Tanaka", "Ulrich", "Vidal",   "Weber",   "Zeman"};
static const struct {
  const char *region, *language;
} homes[] = {{"US", "en"}, {"DE", "de"}, {"JP", "ja"}, {"BR", "pt"}, {"IN", "hi"}};

#define PICK(list, random) ((list)[mq_random_below((random), MQ_COUNT(list))])

static size_t draw_genre(mq_random *random) {
  int total = 0;
  for (size_t i = 0; i < MQ_COUNT(genres); i++)
    total += genres[i].weight;
  int at = (int)mq_random_below(random, (uint64_t)total);
  size_t genre = 0;
  while ((at -= genres[genre].weight) >= 0)
    genre++;
  return genre;
}

/* Person number i; no two have the same name. */
static void person_name(uint64_t i, mq_buffer *name) {
  uint64_t initials = i / (MQ_COUNT(first_names) * MQ_COUNT(last_names));
  mq_buffer_clear(name);
  mq_buffer_printf(name, "%s ", first_names[i % MQ_COUNT(first_names)]);
  for (; initials > 0; initials /= 26)
    mq_buffer_printf(name, "%c. ", (char)('A' + initials % 26));
  mq_buffer_text(name, last_names[i / MQ_COUNT(first_names) % MQ_COUNT(last_names)]);
}

/* What a sequel takes over from the title it follows. */
typedef struct original {
  char stem[64];
  int part, year;
  size_t genre[2];
  int n_genres, home;
  uint64_t people[4];
} original;

/* A new title, or the next part of the one that `title` holds. */
static void invent_original(original *title, bool is_sequel, int64_t n_people, int last_year, mq_random *random) {
  if (is_sequel && title->part > 0) {
    title->part++;
    title->year = (int)MQ_MIN(title->year + 1 + (int)mq_random_below(random, 5), last_year);
    return;
  }
  *title = (original){.part = 1, .n_genres = 1 + (mq_random_unit(random) < 0.6)};
  for (int g = 0; g < title->n_genres; g++)
    title->genre[g] = draw_genre(random);
  title->n_genres = title->n_genres == 2 && title->genre[0] == title->genre[1] ? 1 : title->n_genres;
  title->year = last_year - (int)(70 * pow(mq_random_unit(random), 2.5));
  title->home = mq_random_unit(random) < 0.5 ? 0 : (int)mq_random_below(random, MQ_COUNT(homes));
  for (size_t p = 0; p < MQ_COUNT(title->people); p++) /* few work often */
    title->people[p] = (uint64_t)((double)n_people * pow(mq_random_unit(random), 1.5));
  snprintf(title->stem, sizeof title->stem, "%s %s of %s", PICK(adjectives, random),
           PICK(genres[title->genre[0]].noun, random), PICK(places, random));
}

static void title_write(const title_facts *facts, const original *title, int32_t released, mq_random *random,
                        mq_buffer *out) {
  char date[2][11];
  mq_format_date(released, date[0]);
  mq_buffer_printf(out, "{\"id\":\"%s\",\"title\":\"%s\",\"year\":%d,\"kind\":\"%s\",\"genres\":[", facts->id.at,
                   facts->title.at, facts->year, mq_random_unit(random) < 0.15 ? "series" : "movie");
  for (int g = 0; g < facts->n_genres; g++)
    mq_buffer_printf(out, "%s\"%s\"", g ? "," : "", facts->genres[g].at);
  mq_buffer_printf(out, "],\"country\":[\"%s\"],\"director\":[\"%s\"],\"cast\":[", homes[title->home].region,
                   facts->people[0].at);
  for (int p = 1; p < facts->n_people; p++)
    mq_buffer_printf(out, "%s\"%s\"", p > 1 ? "," : "", facts->people[p].at);
  mq_buffer_printf(out, "],\"maturity\":%d,\"language\":\"%s\",\"released\":\"%s\",\"windows\":[", facts->maturity,
                   facts->language.at, date[0]);
  for (int w = 0; w < facts->n_windows; w++) {
    mq_format_date(facts->windows[w].from, date[0]);
    mq_format_date(facts->windows[w].to, date[1]);
    mq_buffer_printf(out, "%s{\"region\":\"%s\",\"from\":\"%s\",\"to\":\"%s\"}", w ? "," : "",
                     facts->windows[w].region.at, date[0], date[1]);
  }
  size_t other = title->genre[title->n_genres - 1];
  const char *hero = PICK(genres[title->genre[0]].hero, random);
  mq_buffer_printf(out, "],\"synopsis\":\"In %s, %s %s. Then %s %s.\"}\n", PICK(places, random), hero,
                   PICK(genres[title->genre[0]].deed, random), PICK(genres[other].hero, random),
                   PICK(genres[other].deed, random));
}

mq_status catalog_invent(catalog *titles, int64_t n, uint64_t seed, int32_t until, const char *path) {
  mq_status status = MQ_OK;
  mq_random random = mq_random_seed(seed);
  mq_buffer id = {0}, name = {0}, people[4] = {0}, out = {0};
  original title = {0};
  char date[11];
  mq_format_date(until, date);
  int last_year = atoi(date);
  FILE *file = fopen(path, "w");
  if (!file) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    goto done;
  }
  for (int64_t i = 0; i < n && !mq_is_stopping(); i++) {
    invent_original(&title, mq_random_unit(&random) < 1 / 12.0, MQ_MAX(n / 3, 24), last_year, &random);
    title_facts facts = {.year = title.year, .language = mq_str_of(homes[title.home].language)};
    mq_buffer_clear(&id);
    mq_buffer_printf(&id, "t%07lld", (long long)i + 1);
    mq_buffer_clear(&name);
    mq_buffer_printf(&name, title.part > 1 ? "%s %d" : "%s", title.stem, title.part);
    facts.id = (mq_str){id.at, id.n};
    facts.title = (mq_str){name.at, name.n};
    for (int g = 0; g < title.n_genres; g++)
      facts.genres[facts.n_genres++] = mq_str_of(genres[title.genre[g]].name);
    const int *ages = genres[title.genre[0]].maturity;
    static const uint8_t steps[] = {0, 6, 12, 16, 18};
    do
      facts.maturity = PICK(steps, &random);
    while (facts.maturity < ages[0] || facts.maturity > ages[1]);
    for (size_t p = 0; p < MQ_COUNT(people); p++) {
      person_name(title.people[p], &people[p]);
      facts.people[facts.n_people++] = (mq_str){people[p].at, people[p].n};
    }
    /* A release in its year, not behind `until`; shown in 2 to 5 regions, mostly for the years around it. */
    snprintf(date, sizeof date, "%04d-01-01", facts.year);
    if (!mq_parse_date(mq_str_of(date), &facts.released))
      facts.released = until;
    facts.released = MQ_MIN(facts.released + (int32_t)mq_random_below(&random, 365), until);
    size_t first = mq_random_below(&random, MQ_COUNT(homes)), n_regions = 2 + mq_random_below(&random, 4);
    for (size_t r = 0; r < n_regions; r++) {
      int32_t from = until - (int32_t)mq_random_below(&random, 1200) + 60;
      facts.windows[r].region = mq_str_of(homes[(first + r) % MQ_COUNT(homes)].region);
      facts.windows[r].from = from;
      facts.windows[r].to = from + 365 + (int32_t)mq_random_below(&random, 1100);
    }
    facts.n_windows = (int)n_regions;
    mq_buffer_clear(&out);
    title_write(&facts, &title, facts.released, &random, &out);
    catalog_add(titles, &facts);
    if (fwrite(out.at, 1, out.n, file) != out.n)
      break;
  }
  if (mq_is_stopping())
    status = mq_fail(MQ_TEMP_FAIL, "stopped by a signal: nothing was written; run the same command again");
done:
  if (file && (fflush(file) | ferror(file)) && status == MQ_OK)
    status = mq_fail_errno(MQ_IO, "%s: writing failed", path);
  if (file)
    fclose(file);
  mq_buffer_free(&id);
  mq_buffer_free(&name);
  mq_buffer_free(&out);
  for (size_t p = 0; p < MQ_COUNT(people); p++)
    mq_buffer_free(&people[p]);
  return status;
}
