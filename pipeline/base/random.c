/* random: xoshiro256** seeded by splitmix64 (Blackman & Vigna 2018), the same numbers on every machine. */
#include "pipeline/base/base.h"

#include <math.h>

mq_random mq_random_seed(uint64_t seed) {
  mq_random random;
  for (int i = 0; i < 4; i++) {
    uint64_t z = seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    random.state[i] = z ^ z >> 31;
  }
  return random;
}

static uint64_t rotate_left(uint64_t x, int n) {
  return x << n | x >> (64 - n);
}

uint64_t mq_random_u64(mq_random *random) {
  uint64_t *s = random->state, result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return result;
}

double mq_random_unit(mq_random *random) {
  return (double)(mq_random_u64(random) >> 11) * 0x1p-53;
}

uint64_t mq_random_below(mq_random *random, uint64_t limit) {
  unsigned __int128 product = (unsigned __int128)mq_random_u64(random) * limit;
  if ((uint64_t)product < limit) /* Lemire 2019: reject the few that would be too frequent */
    for (uint64_t threshold = -limit % limit; (uint64_t)product < threshold;)
      product = (unsigned __int128)mq_random_u64(random) * limit;
  return (uint64_t)(product >> 64);
}

double mq_random_normal(mq_random *random) { /* Box & Muller; the second value is dropped to keep no state */
  double radius = sqrt(-2 * log(1 - mq_random_unit(random)));
  return radius * cos(6.283185307179586 * mq_random_unit(random));
}
