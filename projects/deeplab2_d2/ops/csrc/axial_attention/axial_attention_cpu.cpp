#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "axial_attention.h"
#include "axial_attention_loops.h"
#include "axial_attention_sequences.h"

namespace deeplab2_d2 {
namespace {

// (L, value_columns) to the channels of (N, T * V, S, L), of one sequence and head. rows: scratch
// (E, positions).
template <typename scalar_t, typename T>
void copy_to_channels(const AttentionSize& size, const T* columns, int64_t stride, T* rows,
                      scalar_t* channels) {
  to_rows(size, size.value_depth, columns, rows);
  for (int64_t d = 0; d < size.value_depth; ++d) {
    const T* row = rows + d * size.positions();
    std::transform(row, row + size.length, channels + d * stride,
                   [](T value) { return static_cast<scalar_t>(value); });
  }
}

// The other way round.
template <typename scalar_t, typename T>
void copy_from_channels(const AttentionSize& size, const scalar_t* channels, int64_t stride,
                        T* rows, T* columns) {
  for (int64_t d = 0; d < size.value_depth; ++d) {
    std::transform(channels + d * stride, channels + d * stride + size.length,
                   rows + d * size.positions(),
                   [](scalar_t value) { return static_cast<T>(value); });
  }
  to_columns(size, size.value_depth, rows, columns);
}

template <typename scalar_t>
void forward(const AttentionInputs& inputs, scalar_t* out) {
  using T = Accumulated<scalar_t>;
  const AttentionSize size = size_of(inputs);
  const int64_t stride = inputs.raw.size(2) * size.length;
  for_each_part(inputs, [&](int64_t head, int64_t first, int64_t end, int64_t) {
    const HeadTables<T> tables(size, inputs, head, false);
    Sequence<scalar_t, T> sequence(size, inputs);
    std::vector<T> weights(kStrip * size.map_stride());
    std::vector<T> rows(size.value_depth * size.positions());
    std::vector<T> content(size.length * size.value_columns()), encoding(content.size());
    for (int64_t index = first; index < end; ++index) {
      sequence.read(place_of(size, inputs, head, index), tables.view.content_scale);
      attend(size, tables.view, sequence.view(), weights.data(), content.data(), encoding.data());
      int64_t kind = 0;
      if (size.retrieve_content) {
        copy_to_channels(size, content.data(), stride, rows.data(),
                         out + retrieved_offset(inputs, kind++, head, index));
      }
      if (size.retrieve_encoding) {
        copy_to_channels(size, encoding.data(), stride, rows.data(),
                         out + retrieved_offset(inputs, kind, head, index));
      }
    }
  });
}

at::Tensor axial_attention_cpu(const at::Tensor& raw, const at::Tensor& scale,
                               const at::Tensor& shift, const at::Tensor& logit_scale,
                               const at::Tensor& logit_shift,
                               const std::optional<at::Tensor>& query_encoding,
                               const std::optional<at::Tensor>& key_encoding,
                               const std::optional<at::Tensor>& value_encoding, int64_t value_depth,
                               bool retrieve_content, int64_t reach) {
  const AttentionInputs given{
      raw,          scale,          shift,       logit_scale,      logit_shift, query_encoding,
      key_encoding, value_encoding, value_depth, retrieve_content, reach};
  check_attention(given);
  const AttentionInputs inputs = in_one_piece(given);
  at::Tensor out = at::empty(
      {raw.size(0), inputs.num_retrieved() * value_depth, raw.size(2), raw.size(3)}, raw.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, raw.scalar_type(), "axial_attention",
      [&] { forward<scalar_t>(inputs, out.mutable_data_ptr<scalar_t>()); });
  return out;
}

// Of a part of a head's sequences: sums over them.
template <typename T>
struct PartialGradients {
  explicit PartialGradients(const AttentionSize& size)
      : query_columns(size.num_relative() * size.key_columns()),
        key_columns(query_columns.size()),
        value_columns(size.num_relative() * size.value_columns()),
        scales(4),
        scale(2 * size.key_depth + size.value_depth),
        shift(scale.size()) {}

  std::vector<T> query_columns, key_columns, value_columns, scales;
  std::vector<T> scale, shift;  // of the head's queries, keys and values
};

// Of (channels, positions) normalised values: of the raw ones, and of the norm.
template <typename scalar_t, typename T>
void undo_norm(const AttentionSize& size, const scalar_t* raw, const T* scale, int64_t channels,
               int64_t stride, const T* gradient, scalar_t* raw_gradient, T* scale_gradient,
               T* shift_gradient) {
  for (int64_t c = 0; c < channels; ++c) {
    const scalar_t* values = raw + c * stride;
    const T* row = gradient + c * size.positions();
    T product = 0, sum = 0;
    for (int64_t l = 0; l < size.length; ++l) {
      product += row[l] * static_cast<T>(values[l]);
      sum += row[l];
      raw_gradient[c * stride + l] = static_cast<scalar_t>(row[l] * scale[c]);
    }
    scale_gradient[c] += product;
    shift_gradient[c] += sum;
  }
}

// One thread's work on a part of a head's sequences.
template <typename scalar_t>
class BackwardWorker {
  using T = Accumulated<scalar_t>;

 public:
  BackwardWorker(const AttentionSize& size, const AttentionInputs& inputs, int64_t head)
      : size_(size),
        inputs_(inputs),
        head_(head),
        tables_(size, inputs, head, true),
        sequence_(size, inputs),
        weights_(size.map_elements()),
        logits_(weights_.size()),
        content_(size.length * size.value_columns()),
        encoding_(content_.size()),
        query_(size.length * size.key_columns()),
        key_(query_.size()),
        value_(content_.size()),
        rows_(std::max(size.key_depth, size.value_depth) * size.positions()),
        scratch_(kRowsAtOnce * std::max(size.key_columns(), size.value_columns())) {}

  void add(int64_t index, const scalar_t* grad, scalar_t* raw_gradient, PartialGradients<T>& sums) {
    const Place place = place_of(size_, inputs_, head_, index);
    sequence_.read(place, tables_.view.content_scale);
    int64_t kind = 0;
    if (size_.retrieve_content) {
      read_gradient(index, kind++, grad, content_);
    }
    if (size_.retrieve_encoding) {
      read_gradient(index, kind, grad, encoding_);
    }
    const AttentionGradients<T> gradients = {query_.data(),           key_.data(),
                                             value_.data(),           sums.query_columns.data(),
                                             sums.key_columns.data(), sums.value_columns.data(),
                                             sums.scales.data()};
    attend_backward(size_, tables_.view, sequence_.view(), content_.data(), encoding_.data(),
                    weights_.data(), logits_.data(), scratch_.data(), gradients);
    const int64_t depth = size_.key_depth;
    write_gradient(place, place.query, depth, query_.data(), raw_gradient, sums, 0);
    write_gradient(place, place.key, depth, key_.data(), raw_gradient, sums, depth);
    write_gradient(place, place.value, size_.value_depth, value_.data(), raw_gradient, sums,
                   2 * depth);
  }

 private:
  void read_gradient(int64_t index, int64_t kind, const scalar_t* grad, std::vector<T>& columns) {
    copy_from_channels(size_, grad + retrieved_offset(inputs_, kind, head_, index),
                       inputs_.raw.size(2) * size_.length, rows_.data(), columns.data());
  }

  void write_gradient(const Place& place, int64_t first, int64_t channels, const T* gradient,
                      scalar_t* raw_gradient, PartialGradients<T>& sums, int64_t sum) {
    const int64_t offset = place.offset + first * place.stride;
    to_rows(size_, channels, gradient, rows_.data());
    undo_norm(size_, inputs_.raw.const_data_ptr<scalar_t>() + offset,
              inputs_.scale.const_data_ptr<T>() + first, channels, place.stride, rows_.data(),
              raw_gradient + offset, &sums.scale[sum], &sums.shift[sum]);
  }

  const AttentionSize size_;
  const AttentionInputs& inputs_;
  const int64_t head_;
  const HeadTables<T> tables_;
  Sequence<scalar_t, T> sequence_;
  std::vector<T> weights_, logits_, content_, encoding_, query_, key_, value_, rows_, scratch_;
};

// columns (R, padded channels) of a part, added to the (R, channels) of a table, if there is one.
template <typename T>
void add_columns(const std::vector<T>& columns, at::Tensor& table) {
  for (int64_t place = 0; table.numel() > 0 && place < table.size(0); ++place) {
    T* row = table.mutable_data_ptr<T>() + place * table.size(1);
    const T* from = &columns[place * padded(table.size(1))];
    for (int64_t c = 0; c < table.size(1); ++c) {
      row[c] += from[c];
    }
  }
}

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                             at::Tensor, at::Tensor>;

// Adds what is of the parameters, part by part.
template <typename T>
void add_sums(const AttentionInputs& inputs, const PartialGradients<T>& sums, int64_t head,
              Gradients& found) {
  add_columns(sums.query_columns, std::get<5>(found));
  add_columns(sums.key_columns, std::get<6>(found));
  add_columns(sums.value_columns, std::get<7>(found));
  for (int64_t term = 0; term < 3; ++term) {
    std::get<3>(found).template mutable_data_ptr<T>()[term * inputs.num_heads() + head] +=
        sums.scales[term];
  }
  std::get<4>(found).template mutable_data_ptr<T>()[head] += sums.scales[3];
  T* scale = std::get<1>(found).template mutable_data_ptr<T>();
  T* shift = std::get<2>(found).template mutable_data_ptr<T>();
  const int64_t depth = inputs.key_depth() / inputs.num_heads();
  const int64_t first[] = {
      head * depth, inputs.key_depth() + head * depth,
      2 * inputs.key_depth() + head * (inputs.value_depth / inputs.num_heads())};
  for (size_t c = 0; c < sums.scale.size(); ++c) {
    const int64_t part = std::min<int64_t>(c / depth, 2);
    scale[first[part] + c - part * depth] += sums.scale[c];
    shift[first[part] + c - part * depth] += sums.shift[c];
  }
}

template <typename scalar_t>
void backward(const AttentionInputs& inputs, const scalar_t* grad, Gradients& found) {
  using T = Accumulated<scalar_t>;
  const AttentionSize size = size_of(inputs);
  const int64_t parts = std::min(inputs.raw.size(0) * inputs.raw.size(2), kSequenceParts);
  std::vector<PartialGradients<T>> sums(inputs.num_heads() * parts, PartialGradients<T>(size));
  scalar_t* raw_gradient = std::get<0>(found).template mutable_data_ptr<scalar_t>();
  for_each_part(inputs, [&](int64_t head, int64_t first, int64_t end, int64_t part) {
    BackwardWorker<scalar_t> worker(size, inputs, head);
    for (int64_t index = first; index < end; ++index) {
      worker.add(index, grad, raw_gradient, sums[part]);
    }
  });
  for (size_t part = 0; part < sums.size(); ++part) {
    add_sums(inputs, sums[part], static_cast<int64_t>(part) / parts, found);
  }
}

Gradients axial_attention_backward_cpu(const at::Tensor& grad, const at::Tensor& raw,
                                       const at::Tensor& scale, const at::Tensor& shift,
                                       const at::Tensor& logit_scale, const at::Tensor& logit_shift,
                                       const std::optional<at::Tensor>& query_encoding,
                                       const std::optional<at::Tensor>& key_encoding,
                                       const std::optional<at::Tensor>& value_encoding,
                                       int64_t value_depth, bool retrieve_content, int64_t reach) {
  const AttentionInputs given{
      raw,          scale,          shift,       logit_scale,      logit_shift, query_encoding,
      key_encoding, value_encoding, value_depth, retrieve_content, reach};
  check_attention(given);
  check_gradient(grad, given);
  const AttentionInputs inputs = in_one_piece(given);
  const at::Tensor gradient = grad.contiguous();
  const auto zeros = [&](const std::optional<at::Tensor>& like) {
    return like.has_value() ? at::zeros_like(*like) : at::empty({0}, inputs.scale.options());
  };
  Gradients found(at::empty_like(inputs.raw), zeros(inputs.scale), zeros(inputs.shift),
                  zeros(inputs.logit_scale), zeros(inputs.logit_shift), zeros(inputs.query),
                  zeros(inputs.key), zeros(inputs.value));
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, raw.scalar_type(), "axial_attention_backward",
      [&] { backward(inputs, gradient.const_data_ptr<scalar_t>(), found); });
  return found;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("axial_attention", &axial_attention_cpu);
  m.impl("axial_attention_backward", &axial_attention_backward_cpu);
}

}  // namespace deeplab2_d2
