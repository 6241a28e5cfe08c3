// What the batch norm of an attention's similarities needs of queries and keys, and its gradient.
//
// The contract is the docstring of `deeplab2_d2.ops.attention_moments`.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

#include "moment_loops.h"

namespace deeplab2_d2 {
namespace {

// Positions whose products are summed over all sequences while they are in the cache.
constexpr int64_t kBlock = 32;
// Parts into which the sequences of a head are divided for threads; sums over sequences are made
// part by part, so that they do not hang on how many threads there are.
constexpr int64_t kParts = 8;

template <typename scalar_t>
using Accumulated = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

constexpr int64_t padded(int64_t count) {
  return (count + kMomentLanes - 1) / kMomentLanes * kMomentLanes;
}

struct MomentSize {
  int64_t images, channels, others, length;
  int64_t heads, depth;  // of one head

  int64_t sequences() const { return images * others; }
  int64_t parts() const { return std::min(sequences(), kParts); }
  int64_t stride() const { return others * length; }
  // First channel of a head's queries (kind 0) or keys (kind 1).
  int64_t first_channel(int64_t kind, int64_t head) const { return (kind * heads + head) * depth; }
  // Where a channel of a sequence begins in (N, C, S, L).
  int64_t offset(int64_t sequence, int64_t channel) const {
    return (sequence / others * channels + channel) * stride() + sequence % others * length;
  }
};

MomentSize size_of(const at::Tensor& raw, const at::Tensor& scale, const at::Tensor& shift,
                   int64_t num_heads, int64_t key_depth) {
  const char* name = "attention_moments";
  TORCH_CHECK(raw.dim() == 4 && raw.numel() > 0, name,
              ": raw must be (N, C, S, L), not empty, got ", raw.sizes());
  TORCH_CHECK(
      num_heads > 0 && key_depth > 0 && key_depth % num_heads == 0 && 2 * key_depth <= raw.size(1),
      name, ": key_depth must be a multiple of ", num_heads, " heads, and at most half of ",
      raw.size(1), " channels, got ", key_depth);
  const auto parameters = raw.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  for (const at::Tensor& values : {scale, shift}) {
    TORCH_CHECK(
        values.dim() == 1 && values.size(0) == raw.size(1) && values.scalar_type() == parameters,
        name, ": scale and shift must be (", raw.size(1), ") of ", parameters, ", got ",
        values.sizes(), " of ", values.dtype());
  }
  return {raw.size(0), raw.size(1), raw.size(2), raw.size(3), num_heads, key_depth / num_heads};
}

// Normalised queries or keys of one head.
template <typename scalar_t>
class NormalisedRows {
 public:
  using T = Accumulated<scalar_t>;

  NormalisedRows(const MomentSize& size, const at::Tensor& raw, const at::Tensor& scale,
                 const at::Tensor& shift, int64_t kind, int64_t head)
      : size_(size),
        first_(size.first_channel(kind, head)),
        raw_(raw.const_data_ptr<scalar_t>()),
        scale_(scale.const_data_ptr<T>() + first_),
        shift_(shift.const_data_ptr<T>() + first_) {}

  const scalar_t* raw(int64_t sequence, int64_t d) const {
    return raw_ + size_.offset(sequence, first_ + d);
  }
  T scale(int64_t d) const { return scale_[d]; }

  // The positions from first on of a sequence, (D, padded count).
  void read(int64_t sequence, int64_t first, int64_t count, T* rows) const {
    for (int64_t d = 0; d < size_.depth; ++d) {
      const scalar_t* values = raw(sequence, d) + first;
      T* row = rows + d * padded(count);
      for (int64_t l = 0; l < count; ++l) {
        row[l] = static_cast<T>(values[l]) * scale_[d] + shift_[d];
      }
      std::fill(row + count, row + padded(count), T(0));
    }
  }

 private:
  const MomentSize& size_;
  int64_t first_;
  const scalar_t* raw_;
  const T *scale_, *shift_;
};

// work(head, first sequence, end, index of the part) of every part of every head.
template <typename Work>
void for_each_part(const MomentSize& size, const Work& work) {
  const int64_t parts = size.parts(), sequences = size.sequences();
  at::parallel_for(0, size.heads * parts, 1, [&](int64_t first, int64_t end) {
    for (int64_t index = first; index < end; ++index) {
      const int64_t part = index % parts;
      work(index / parts, sequences * part / parts, sequences * (part + 1) / parts, index);
    }
  });
}

// Sums over sequences at each position: (2, H, D, L) and (2, H, pairs, L).
template <typename scalar_t, typename T>
void add_positions(const MomentSize& size, const at::Tensor& raw, const at::Tensor& scale,
                   const at::Tensor& shift, T* sums, T* products) {
  const int64_t depth = size.depth, pairs = num_pairs(depth);
  const int64_t blocks = (size.length + kBlock - 1) / kBlock;
  at::parallel_for(0, 2 * size.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> rows(depth * kBlock), block_sums(rows.size()), block_products(pairs * kBlock);
    for (int64_t index = begin; index < end; ++index) {
      const int64_t place = index / blocks, first = index % blocks * kBlock;
      const int64_t count = std::min(kBlock, size.length - first), stride = padded(count);
      const NormalisedRows<scalar_t> part(size, raw, scale, shift, place / size.heads,
                                          place % size.heads);
      std::fill(block_sums.begin(), block_sums.end(), T(0));
      std::fill(block_products.begin(), block_products.end(), T(0));
      for (int64_t sequence = 0; sequence < size.sequences(); ++sequence) {
        part.read(sequence, first, count, rows.data());
        add_products(rows.data(), depth, stride, block_sums.data(), block_products.data());
      }
      for (int64_t d = 0; d < depth; ++d) {
        std::copy_n(&block_sums[d * stride], count,
                    sums + (place * depth + d) * size.length + first);
      }
      for (int64_t pair = 0; pair < pairs; ++pair) {
        std::copy_n(&block_products[pair * stride], count,
                    products + (place * pairs + pair) * size.length + first);
      }
    }
  });
}

// Sum of q . k, and of its square, over all pairs of a head's sequences: (2, H).
template <typename scalar_t, typename T>
void add_content(const MomentSize& size, const at::Tensor& raw, const at::Tensor& scale,
                 const at::Tensor& shift, T* content) {
  const int64_t depth = size.depth, positions = padded(size.length);
  std::vector<double> partial(2 * size.heads * size.parts());
  for_each_part(size, [&](int64_t head, int64_t first, int64_t end, int64_t index) {
    const NormalisedRows<scalar_t> query(size, raw, scale, shift, 0, head);
    const NormalisedRows<scalar_t> key(size, raw, scale, shift, 1, head);
    std::vector<T> rows(depth * positions), totals(2 * depth), grams(2 * depth * depth);
    for (int64_t sequence = first; sequence < end; ++sequence) {
      query.read(sequence, 0, size.length, rows.data());
      sum_products(rows.data(), depth, positions, &totals[0], &grams[0]);
      key.read(sequence, 0, size.length, rows.data());
      sum_products(rows.data(), depth, positions, &totals[depth], &grams[depth * depth]);
      T sum = 0, square = 0;
      for (int64_t d = 0; d < depth; ++d) {
        sum += totals[d] * totals[depth + d];
      }
      for (int64_t pair = 0; pair < depth * depth; ++pair) {
        square += grams[pair] * grams[depth * depth + pair];
      }
      partial[2 * index] += sum;
      partial[2 * index + 1] += square;
    }
  });
  for (int64_t head = 0; head < size.heads; ++head) {
    double sum = 0, square = 0;
    for (int64_t part = 0; part < size.parts(); ++part) {
      sum += partial[2 * (head * size.parts() + part)];
      square += partial[2 * (head * size.parts() + part) + 1];
    }
    content[head] = static_cast<T>(sum);
    content[size.heads + head] = static_cast<T>(square);
  }
}

using Moments = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

Moments attention_moments_cpu(const at::Tensor& raw, const at::Tensor& scale,
                              const at::Tensor& shift, int64_t num_heads, int64_t key_depth) {
  const MomentSize size = size_of(raw, scale, shift, num_heads, key_depth);
  const at::Tensor values = raw.contiguous(), scales = scale.contiguous(),
                   shifts = shift.contiguous();
  at::Tensor content = at::empty({2, num_heads}, scale.options());
  at::Tensor sums = at::empty({2, num_heads, size.depth, size.length}, scale.options());
  at::Tensor products =
      at::empty({2, num_heads, num_pairs(size.depth), size.length}, scale.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, raw.scalar_type(), "attention_moments", [&] {
        using T = Accumulated<scalar_t>;
        add_content<scalar_t>(size, values, scales, shifts, content.mutable_data_ptr<T>());
        add_positions<scalar_t>(size, values, scales, shifts, sums.mutable_data_ptr<T>(),
                                products.mutable_data_ptr<T>());
      });
  return {content, sums, products};
}

// Gradients of what `attention_moments` gives, as one head's loops take them.
template <typename T>
struct HeadGradients {
  HeadGradients(const MomentSize& size, const T* content, const T* sums, const T* products,
                int64_t head)
      : sum(content[head]), square(content[size.heads + head]) {
    const int64_t depth = size.depth, positions = padded(size.length), pairs = num_pairs(depth);
    for (int64_t kind = 0; kind < 2; ++kind) {
      const int64_t place = kind * size.heads + head;
      rows[kind].assign(depth * positions, T(0));
      pair_rows[kind].assign(pairs * positions, T(0));
      for (int64_t d = 0; d < depth; ++d) {
        std::copy_n(sums + (place * depth + d) * size.length, size.length,
                    &rows[kind][d * positions]);
      }
      for (int64_t i = 0; i < depth; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          const T* from = products + (place * pairs + num_pairs(i) + j) * size.length;
          T* to = &pair_rows[kind][(num_pairs(i) + j) * positions];
          // The derivative of a square is twice its root.
          std::transform(from, from + size.length, to,
                         [&](T value) { return i == j ? 2 * value : value; });
        }
      }
    }
  }

  T sum, square;
  std::vector<T> rows[2], pair_rows[2];
};

template <typename scalar_t>
void backward(const MomentSize& size, const at::Tensor& content, const at::Tensor& sums,
              const at::Tensor& products, const at::Tensor& raw, const at::Tensor& scale,
              const at::Tensor& shift, Moments& found) {
  using T = Accumulated<scalar_t>;
  const int64_t depth = size.depth, positions = padded(size.length);
  scalar_t* raw_gradient = std::get<0>(found).template mutable_data_ptr<scalar_t>();
  // Of scale and shift of the channels of queries and keys, of each part.
  std::vector<T> partial(size.heads * size.parts() * 4 * depth);
  for_each_part(size, [&](int64_t head, int64_t first, int64_t end, int64_t index) {
    const HeadGradients<T> gradients(size, content.const_data_ptr<T>(), sums.const_data_ptr<T>(),
                                     products.const_data_ptr<T>(), head);
    const NormalisedRows<scalar_t> kinds[] = {{size, raw, scale, shift, 0, head},
                                              {size, raw, scale, shift, 1, head}};
    std::vector<T> rows[2], totals[2], grams[2], out(depth * positions);
    for (int64_t kind = 0; kind < 2; ++kind) {
      rows[kind].resize(depth * positions);
      totals[kind].resize(depth);
      grams[kind].resize(depth * depth);
    }
    for (int64_t sequence = first; sequence < end; ++sequence) {
      for (int64_t kind = 0; kind < 2; ++kind) {
        kinds[kind].read(sequence, 0, size.length, rows[kind].data());
        sum_products(rows[kind].data(), depth, positions, totals[kind].data(), grams[kind].data());
        for (T& value : totals[kind]) {
          value *= gradients.sum;
        }
        for (T& value : grams[kind]) {
          value *= 2 * gradients.square;
        }
      }
      for (int64_t kind = 0; kind < 2; ++kind) {
        weighted_rows(rows[kind].data(), depth, positions, totals[1 - kind].data(),
                      gradients.rows[kind].data(), gradients.pair_rows[kind].data(),
                      grams[1 - kind].data(), out.data());
        for (int64_t d = 0; d < depth; ++d) {
          const scalar_t* values = kinds[kind].raw(sequence, d);
          scalar_t* to = raw_gradient + size.offset(sequence, size.first_channel(kind, head) + d);
          const T factor = kinds[kind].scale(d);
          T product = 0, total = 0;
          for (int64_t l = 0; l < size.length; ++l) {
            const T value = out[d * positions + l];
            product += value * static_cast<T>(values[l]);
            total += value;
            to[l] = static_cast<scalar_t>(value * factor);
          }
          T* sum = &partial[(index * 2 + kind) * 2 * depth + d];
          sum[0] += product;
          sum[depth] += total;
        }
      }
    }
  });
  T* scale_gradient = std::get<1>(found).template mutable_data_ptr<T>();
  T* shift_gradient = std::get<2>(found).template mutable_data_ptr<T>();
  for (int64_t index = 0; index < size.heads * size.parts(); ++index) {
    for (int64_t kind = 0; kind < 2; ++kind) {
      const int64_t channel = size.first_channel(kind, index / size.parts());
      const T* sum = &partial[(index * 2 + kind) * 2 * depth];
      for (int64_t d = 0; d < depth; ++d) {
        scale_gradient[channel + d] += sum[d];
        shift_gradient[channel + d] += sum[depth + d];
      }
    }
  }
}

Moments attention_moments_backward_cpu(const at::Tensor& content, const at::Tensor& sums,
                                       const at::Tensor& products, const at::Tensor& raw,
                                       const at::Tensor& scale, const at::Tensor& shift,
                                       int64_t num_heads, int64_t key_depth) {
  const MomentSize size = size_of(raw, scale, shift, num_heads, key_depth);
  const auto check = [&](const at::Tensor& grad, at::IntArrayRef shape) {
    TORCH_CHECK(grad.sizes() == shape && grad.scalar_type() == scale.scalar_type(),
                "attention_moments_backward: gradient must be ", shape, " of ", scale.dtype(),
                ", got ", grad.sizes(), " of ", grad.dtype());
    return grad.contiguous();
  };
  const at::Tensor gradients[] = {
      check(content, {2, num_heads}), check(sums, {2, num_heads, size.depth, size.length}),
      check(products, {2, num_heads, num_pairs(size.depth), size.length})};
  Moments found(at::zeros(raw.sizes(), raw.options()), at::zeros(scale.sizes(), scale.options()),
                at::zeros(shift.sizes(), shift.options()));
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, raw.scalar_type(), "attention_moments_backward", [&] {
        backward<scalar_t>(size, gradients[0], gradients[1], gradients[2], raw.contiguous(),
                           scale.contiguous(), shift.contiguous(), found);
      });
  return found;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("attention_moments", &attention_moments_cpu);
  m.impl("attention_moments_backward", &attention_moments_backward_cpu);
}

}  // namespace deeplab2_d2
