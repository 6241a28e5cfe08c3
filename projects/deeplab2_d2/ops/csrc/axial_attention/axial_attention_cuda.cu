// Work division: a block has 64 positions (32 of double) of a sequence and head, the rows of its
// tiles, and goes over 32 others at a time, the columns; the softmax is that of the columns so far,
// rescaled as its maximum grows. So no map of all pairs is kept, shared memory is the same for any
// length, and a local span skips tiles. axial_attention_tiles.cuh says how a tile is divided.
//
// Forward, rows are queries; up to 64 channels are retrieved together, in registers. Backward,
// weights and their gradients are computed anew in four kernels: rows are queries, for the
// statistics of each and then for its gradients; keys, for the gradients of keys and values; and
// relative positions, for those of the encodings, over a part of the sequences. All sums are made
// in an order that the sizes alone decide, without atomics: a block's own are written side by side
// and added up by PyTorch. Between the kernels lie two numbers a query and head, two a channel and
// block, and at most kEncodingBlocks tiles of the encodings' gradients or, if these are more, H of
// the encodings.
//
// What bounds it are the multiplications of float32 outside tensor cores: with D and E channels of
// a head's keys and values 3 D + 2 E a pair forward; backward 4 (3 D + 2 E) + 6 D + 2 E.
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "axial_attention_other_gradients.cuh"

namespace deeplab2_d2 {
namespace {

// Blocks of the encodings' gradients, if there are sequences for so many.
constexpr int64_t kEncodingBlocks = 1024;

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                             at::Tensor, at::Tensor>;

int64_t divide_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// (R, channels) as the kernels read it, (channels, R).
at::Tensor transposed(const std::optional<at::Tensor>& table) {
  return table.has_value() ? table->t().contiguous() : at::Tensor();
}

template <typename T>
const T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}

// Positions and channels are numbered by 32 bits, and so are blocks: here those that there are at
// most, of tiles of double.
void check_limits(const AttentionInputs& inputs) {
  const at::Tensor& raw = inputs.raw;
  constexpr int64_t kTooMany = int64_t(1) << 29;
  TORCH_CHECK(
      raw.size(1) < kTooMany && raw.size(3) < kTooMany,
      "axial_attention: on a GPU raw must have less than 2**29 channels and positions, got ",
      raw.sizes());
  const int64_t depth = std::max(inputs.key_depth(), inputs.value_depth) / inputs.num_heads();
  const int64_t blocks = divide_up(raw.size(3), SharedTile<double>::kRows) *
                         divide_up(depth, kChannels) * inputs.num_heads();
  TORCH_CHECK(raw.size(0) * raw.size(2) < 2 * kTooMany / blocks,
              "axial_attention: on a GPU there must be less than 2**30 blocks of ",
              SharedTile<double>::kRows, " positions and ", kChannels,
              " channels of a head and sequence, got ", blocks, " for each sequence of ",
              raw.sizes());
}

// How the work on some rows is divided.
struct Division {
  int32_t tiles, chunks;
  int64_t blocks;

  Division(int64_t rows, int64_t rows_of_tile, int64_t chunks, int64_t heads, int64_t sequences)
      : tiles(static_cast<int32_t>(divide_up(rows, rows_of_tile))),
        chunks(static_cast<int32_t>(chunks)),
        blocks(tiles * heads * sequences * chunks) {}
};

// One call: the tensors that its kernels read. Blocks have up to kParts * kChannels channels of
// values.
template <typename scalar_t, int kParts>
class AttentionPass {
 public:
  using T = Accumulated<scalar_t>;
  using Tile = SharedTile<T>;

  explicit AttentionPass(const AttentionInputs& inputs)
      : inputs_(inputs),
        by_query_(transposed(inputs.query)),
        by_key_(transposed(inputs.key)),
        by_value_(transposed(inputs.value)) {
    const int64_t length = inputs.raw.size(3);
    view_ = {inputs.raw.const_data_ptr<scalar_t>(),
             nullptr,
             inputs.scale.const_data_ptr<T>(),
             inputs.shift.const_data_ptr<T>(),
             inputs.logit_scale.const_data_ptr<T>(),
             inputs.logit_shift.const_data_ptr<T>(),
             pointer<T>(by_query_),
             pointer<T>(by_key_),
             pointer<T>(by_value_),
             inputs.raw.size(2),
             static_cast<int32_t>(length),
             static_cast<int32_t>(inputs.num_heads()),
             static_cast<int32_t>(inputs.key_depth() / inputs.num_heads()),
             static_cast<int32_t>(inputs.value_depth / inputs.num_heads()),
             static_cast<int32_t>(std::min(inputs.reach, length)),
             inputs.retrieve_content};
  }

  void forward(at::Tensor& out) const {
    const Division by = divide(value_chunks());
    attend_kernel<scalar_t, kParts><<<by.blocks, Tile::kThreads, 0, stream_>>>(
        view_, by.tiles, by.chunks, out.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  Gradients backward(const at::Tensor& grad) {
    view_.grad = grad.const_data_ptr<scalar_t>();
    const at::TensorOptions options = inputs_.scale.options();
    const at::Tensor of_queries = at::empty({2, sequences(), view_.heads, view_.length}, options);
    const Statistics<T> statistics{of_queries[0].mutable_data_ptr<T>(),
                                   of_queries[1].mutable_data_ptr<T>()};
    at::Tensor raw = at::empty_like(inputs_.raw);
    const Division by_query = divide(key_chunks());
    const Division by_key = divide(std::max(key_chunks(), value_chunks()));
    const int64_t blocks = sequences() * by_key.tiles;
    const at::Tensor of_norm = at::empty({2, blocks, inputs_.raw.size(1)}, options);
    const at::Tensor of_logits =
        at::zeros({3, blocks * by_key.chunks * Tile::kWarps, view_.heads}, options);
    const PartialSums<T> sums{of_norm[0].mutable_data_ptr<T>(), of_norm[1].mutable_data_ptr<T>(),
                              of_logits.mutable_data_ptr<T>(), of_logits.size(1)};
    const Division by_row = divide(1);
    statistics_kernel<scalar_t>
        <<<by_row.blocks, Tile::kThreads, 0, stream_>>>(view_, by_row.tiles, statistics);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    query_gradient_kernel<scalar_t><<<by_query.blocks, Tile::kThreads, 0, stream_>>>(
        view_, by_query.tiles, by_query.chunks, statistics, sums, raw.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    key_gradient_kernel<scalar_t, kParts><<<by_key.blocks, Tile::kThreads, 0, stream_>>>(
        view_, by_key.tiles, by_key.chunks, statistics, sums, raw.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const std::array<at::Tensor, 3> tables = encoding_gradients(statistics);
    // A softmax is the same whatever is added to all logits.
    return {raw,
            of_norm[0].sum(0),
            of_norm[1].sum(0),
            of_logits.sum(1),
            at::zeros_like(inputs_.logit_shift),
            tables[0],
            tables[1],
            tables[2]};
  }

 private:
  // Of the encodings of queries, keys and values; empty for those that are not there.
  std::array<at::Tensor, 3> encoding_gradients(const Statistics<T>& statistics) const {
    const at::TensorOptions options = inputs_.scale.options();
    std::array<at::Tensor, 3> found;
    for (at::Tensor& table : found) {
      table = at::empty({0}, options);
    }
    if (!by_query_.defined() && !by_key_.defined() && !by_value_.defined()) {
      return found;
    }
    const int64_t relative = 2 * int64_t(view_.length) - 1;
    const int64_t chunks = std::max(key_chunks(), value_chunks());
    const int64_t blocks_of_part = divide_up(relative, Tile::kRows) * chunks * view_.heads;
    const int64_t parts = std::clamp(kEncodingBlocks / blocks_of_part, int64_t(1), sequences());
    const Division by(relative, Tile::kRows, chunks, view_.heads, parts);
    const at::Tensor partial = at::empty(
        {parts * view_.heads, 2 * view_.key_depth + view_.value_depth, relative}, options);
    encoding_gradient_kernel<scalar_t, kParts><<<by.blocks, Tile::kThreads, 0, stream_>>>(
        view_, by.tiles, by.chunks, parts, sequences(), statistics, partial.mutable_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const at::Tensor sums = partial.sum(0);
    const at::Tensor* tables[] = {&by_query_, &by_key_, &by_value_};
    int64_t first = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const int64_t depth = i < 2 ? view_.key_depth : view_.value_depth;
      if (tables[i]->defined()) {
        found[i] = sums.narrow(0, first, depth).t().clone(at::MemoryFormat::Contiguous);
      }
      first += depth;
    }
    return found;
  }

  int64_t sequences() const { return inputs_.raw.size(0) * inputs_.raw.size(2); }
  int64_t key_chunks() const { return divide_up(view_.key_depth, kChannels); }
  int64_t value_chunks() const { return divide_up(view_.value_depth, kParts * kChannels); }
  Division divide(int64_t chunks) const {
    return {view_.length, Tile::kRows, chunks, view_.heads, sequences()};
  }

  const AttentionInputs& inputs_;
  const at::Tensor by_query_, by_key_, by_value_;
  AttentionView<scalar_t> view_;
  const decltype(c10::cuda::getCurrentCUDAStream()) stream_ = c10::cuda::getCurrentCUDAStream();
};

// Calls run with an AttentionPass.
template <typename Run>
void with_pass(const AttentionInputs& inputs, const Run& run) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, inputs.raw.scalar_type(),
                                  "axial_attention", [&] {
                                    if (inputs.value_depth / inputs.num_heads() <= kChannels) {
                                      run(AttentionPass<scalar_t, 1>(inputs));
                                    } else {
                                      run(AttentionPass<scalar_t, 2>(inputs));
                                    }
                                  });
}

at::Tensor axial_attention_cuda(const at::Tensor& raw, const at::Tensor& scale,
                                const at::Tensor& shift, const at::Tensor& logit_scale,
                                const at::Tensor& logit_shift,
                                const std::optional<at::Tensor>& query_encoding,
                                const std::optional<at::Tensor>& key_encoding,
                                const std::optional<at::Tensor>& value_encoding,
                                int64_t value_depth, bool retrieve_content, int64_t reach) {
  const AttentionInputs given{
      raw,          scale,          shift,       logit_scale,      logit_shift, query_encoding,
      key_encoding, value_encoding, value_depth, retrieve_content, reach};
  check_attention(given);
  check_limits(given);
  const c10::cuda::CUDAGuard guard(raw.device());
  const AttentionInputs inputs = in_one_piece(given);
  at::Tensor out = at::empty(
      {raw.size(0), inputs.num_retrieved() * value_depth, raw.size(2), raw.size(3)}, raw.options());
  with_pass(inputs, [&](auto pass) { pass.forward(out); });
  return out;
}

Gradients axial_attention_backward_cuda(const at::Tensor& grad, const at::Tensor& raw,
                                        const at::Tensor& scale, const at::Tensor& shift,
                                        const at::Tensor& logit_scale,
                                        const at::Tensor& logit_shift,
                                        const std::optional<at::Tensor>& query_encoding,
                                        const std::optional<at::Tensor>& key_encoding,
                                        const std::optional<at::Tensor>& value_encoding,
                                        int64_t value_depth, bool retrieve_content, int64_t reach) {
  const AttentionInputs given{
      raw,          scale,          shift,       logit_scale,      logit_shift, query_encoding,
      key_encoding, value_encoding, value_depth, retrieve_content, reach};
  check_attention(given);
  check_gradient(grad, given);
  check_limits(given);
  const c10::cuda::CUDAGuard guard(raw.device());
  const AttentionInputs inputs = in_one_piece(given);
  const at::Tensor gradient = grad.contiguous();
  Gradients found;
  with_pass(inputs, [&](auto pass) { found = pass.backward(gradient); });
  return found;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) {
  m.impl("axial_attention", &axial_attention_cuda);
  m.impl("axial_attention_backward", &axial_attention_backward_cuda);
}

}  // namespace deeplab2_d2
