/* arena: deals out pieces of one range of device memory. The bookkeeping is host memory, so a piece costs no call to
 * the driver; the same calls in the same order give the same pieces.
 *
 *   0        weights      scratch            limit
 *   |#####|##########|....|#####|............|        # used   . free
 *
 * First fit from the low end: weights, which stay, lie there; workspaces come and go behind them. Neighbouring free
 * pieces are one piece again at once. A model has some hundred tensors: the walk over the free pieces is short. */
#ifndef MQ_KERNELS_CUDA_ARENA_H
#define MQ_KERNELS_CUDA_ARENA_H

#include <stddef.h>

#include <iterator>
#include <map>

class mq_arena {
public:
  static constexpr size_t ALIGNMENT = 256; /* what cudaMalloc gives; bulk copies and tensor maps need 128 at most */
  static constexpr size_t NONE = static_cast<size_t>(-1);

  explicit mq_arena(size_t n_bytes) {
    limit = n_bytes / ALIGNMENT * ALIGNMENT;
    if (limit > 0)
      free_pieces[0] = limit;
  }

  /* Offset of n_bytes, or NONE. Zero bytes take a piece as well: every piece has its own address. */
  size_t take(size_t n_bytes) {
    if (n_bytes > limit)
      return NONE;
    const size_t n = n_bytes == 0 ? ALIGNMENT : (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (auto piece = free_pieces.begin(); piece != free_pieces.end(); ++piece) {
      if (piece->second < n)
        continue;
      const size_t offset = piece->first, rest = piece->second - n;
      free_pieces.erase(piece);
      if (rest > 0)
        free_pieces[offset + n] = rest;
      used_pieces[offset] = n;
      in_use += n;
      peak = in_use > peak ? in_use : peak;
      return offset;
    }
    return NONE;
  }

  /* Whether `offset` was a piece; it is none any more. */
  bool give(size_t offset) {
    const auto piece = used_pieces.find(offset);
    if (piece == used_pieces.end())
      return false;
    size_t n = piece->second;
    used_pieces.erase(piece);
    in_use -= n;
    auto next = free_pieces.lower_bound(offset);
    if (next != free_pieces.end() && next->first == offset + n) {
      n += next->second;
      next = free_pieces.erase(next);
    }
    if (next != free_pieces.begin()) {
      const auto previous = std::prev(next);
      if (previous->first + previous->second == offset) {
        previous->second += n;
        return true;
      }
    }
    free_pieces[offset] = n;
    return true;
  }

  size_t largest_free() const {
    size_t largest = 0;
    for (const auto &piece : free_pieces)
      largest = piece.second > largest ? piece.second : largest;
    return largest;
  }
  size_t size() const { return limit; }
  size_t used() const { return in_use; }
  size_t most_used() const { return peak; }

private:
  std::map<size_t, size_t> free_pieces, used_pieces; /* offset: bytes */
  size_t limit = 0, in_use = 0, peak = 0;
};

#endif
