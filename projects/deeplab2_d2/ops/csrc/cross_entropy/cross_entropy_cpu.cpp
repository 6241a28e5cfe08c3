#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../resampling/resampling.h"
#include "cross_entropy.h"
#include "cross_entropy_loops.h"

namespace deeplab2_d2 {
namespace {

// Pixels of a row whose logits of all classes are in the cache at a time.
constexpr int64_t kPixelsAtOnce = 256;

// The transpose of mix_columns: sums (width + 1) of the source pixels below and above. On an axis
// that keeps its length they are the same.
template <typename scalar_t>
void reduce_row(const scalar_t* gradient, const AxisPositions<scalar_t>& columns, int64_t first,
                int64_t count, scalar_t* sums) {
  const int32_t step = columns.is_identity ? 0 : 1;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t lower = columns.lower[first + i];
    const scalar_t weight = columns.weight[first + i];
    sums[lower] += gradient[i] * (scalar_t(1) - weight);
    sums[lower + step] += gradient[i] * weight;
  }
}

// What one call works on; shared by all threads.
template <typename scalar_t>
struct Job {
  int64_t num_classes, map_height, map_width, height, width;
  AxisPositions<scalar_t> rows, columns;
  int64_t ignore_label;
};

// One thread's work on the rows of one image. Memory is allocated once for all rows.
template <typename scalar_t>
class RowWorker {
 public:
  RowWorker(const Job<scalar_t>& job, const scalar_t* logits, const int64_t* labels,
            const scalar_t* weights)
      : job_(job),
        logits_(logits),
        labels_(labels),
        weights_(weights),
        blended_(job.num_classes * job.map_width),
        next_(job.num_classes * job.map_width),
        values_(job.num_classes * kPixelsAtOnce),
        largest_(kPixelsAtOnce),
        total_(kPixelsAtOnce),
        factor_(kPixelsAtOnce) {}

  void losses_of_row(int64_t y, scalar_t* losses) {
    start_row(y);
    for (int64_t first = 0; first < job_.width; first += kPixelsAtOnce) {
      const int64_t count = std::min(kPixelsAtOnce, job_.width - first);
      expand_values(first, count);
      softmax_sums(values_.data(), kPixelsAtOnce, job_.num_classes, count, largest_.data(),
                   total_.data());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t pixel = y * job_.width + first + i;
        const int64_t label = labels_[pixel];
        const scalar_t weight = weights_ == nullptr ? scalar_t(1) : weights_[pixel];
        scalar_t loss = 0;
        if (label != job_.ignore_label) {
          const scalar_t logit = values_[label * kPixelsAtOnce + i];
          loss = std::log(total_[i]) - (logit - largest_[i]);
        }
        losses[first + i] = loss * weight;
      }
    }
  }

  // Adds the gradient of row y to those of the map's rows below and above it.
  //
  // gradient: (W) of the losses; is_finite: whether the logits are, else pixels whose gradient is 0
  // count, too (0 times NaN is NaN); below, above: (C, w); sums: scratch (C, w + 1).
  void add_gradient_of_row(int64_t y, const scalar_t* gradient, bool is_finite,
                           std::vector<scalar_t>& sums, scalar_t* below, scalar_t* above) {
    bool is_started = false;
    for (int64_t first = 0; first < job_.width; first += kPixelsAtOnce) {
      const int64_t count = std::min(kPixelsAtOnce, job_.width - first);
      if (!set_factors(y, first, count, gradient) && is_finite) {
        continue;
      }
      if (!is_started) {
        start_row(y);
        std::fill(sums.begin(), sums.end(), scalar_t(0));
        is_started = true;
      }
      add_gradient_of_part(y, first, count, sums);
    }
    const scalar_t weight = job_.rows.weight[y];
    for (int64_t c = 0; is_started && c < job_.num_classes; ++c) {
      // In the last column the pixel above is the column itself.
      scalar_t* row = &sums[c * (job_.map_width + 1)];
      row[job_.map_width - 1] += row[job_.map_width];
    }
    for (int64_t c = 0; is_started && c < job_.num_classes; ++c) {
      const scalar_t* row = &sums[c * (job_.map_width + 1)];
      add_scaled(row, scalar_t(1) - weight, job_.map_width, below + c * job_.map_width);
      scalar_t* upper = job_.rows.is_identity ? below : above;
      add_scaled(row, weight, job_.map_width, upper + c * job_.map_width);
    }
  }

 private:
  int64_t upper_row(int64_t y) const {
    const int64_t lower = job_.rows.lower[y];
    return job_.rows.is_identity ? lower : std::min(lower + 1, job_.map_height - 1);
  }

  void start_row(int64_t y) {
    const int64_t lower = job_.rows.lower[y], upper = upper_row(y);
    const int64_t step = job_.columns.is_identity ? 0 : 1;
    for (int64_t c = 0; c < job_.num_classes; ++c) {
      const scalar_t* map = logits_ + c * job_.map_height * job_.map_width;
      scalar_t* row = &blended_[c * job_.map_width];
      scalar_t* next = &next_[c * job_.map_width];
      mix_rows(map + lower * job_.map_width, map + upper * job_.map_width, job_.rows.weight[y],
               job_.map_width, row);
      std::copy(row + step, row + job_.map_width, next);
      next[job_.map_width - 1] = row[job_.map_width - 1];
    }
  }

  void expand_values(int64_t first, int64_t count) {
    for (int64_t c = 0; c < job_.num_classes; ++c) {
      const scalar_t* row = &blended_[c * job_.map_width];
      const scalar_t* next = &next_[c * job_.map_width];
      scalar_t* out = &values_[c * kPixelsAtOnce];
      if (job_.columns.is_quarter) {
        mix_columns_by_4(row + first / 4, next + first / 4, count, out);
      } else {
        mix_columns(row, next, &job_.columns.lower[first], &job_.columns.weight[first], count, out);
      }
    }
  }

  // factor_ = gradient x weight of each pixel, 0 where it is ignored; whether any is not 0.
  bool set_factors(int64_t y, int64_t first, int64_t count, const scalar_t* gradient) {
    bool any = false;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t pixel = y * job_.width + first + i;
      const scalar_t weight = weights_ == nullptr ? scalar_t(1) : weights_[pixel];
      factor_[i] = labels_[pixel] == job_.ignore_label ? scalar_t(0) : gradient[first + i] * weight;
      any |= factor_[i] != 0;
    }
    return any;
  }

  void add_gradient_of_part(int64_t y, int64_t first, int64_t count, std::vector<scalar_t>& sums) {
    expand_values(first, count);
    softmax_sums(values_.data(), kPixelsAtOnce, job_.num_classes, count, largest_.data(),
                 total_.data());
    for (int64_t i = 0; i < count; ++i) {
      total_[i] = factor_[i] / total_[i];
    }
    for (int64_t c = 0; c < job_.num_classes; ++c) {
      scale_softmax(&values_[c * kPixelsAtOnce], count, largest_.data(), total_.data());
    }
    for (int64_t i = 0; i < count; ++i) {
      if (factor_[i] != 0) {
        values_[labels_[y * job_.width + first + i] * kPixelsAtOnce + i] -= factor_[i];
      }
    }
    for (int64_t c = 0; c < job_.num_classes; ++c) {
      reduce_row(&values_[c * kPixelsAtOnce], job_.columns, first, count,
                 &sums[c * (job_.map_width + 1)]);
    }
  }

  const Job<scalar_t>& job_;
  const scalar_t* logits_;
  const int64_t* labels_;
  const scalar_t* weights_;               // or null
  std::vector<scalar_t> blended_, next_;  // (C, w): a row of the map, and what is right of it
  std::vector<scalar_t> values_;          // (C, kPixelsAtOnce)
  std::vector<scalar_t> largest_, total_, factor_;
};

void check_labels(const at::Tensor& labels, int64_t num_classes, int64_t ignore_label) {
  const int64_t* values = labels.const_data_ptr<int64_t>();
  at::parallel_for(0, labels.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      TORCH_CHECK(values[i] == ignore_label || (values[i] >= 0 && values[i] < num_classes),
                  "upsampled_cross_entropy: labels must be in [0, ", num_classes, ") or ",
                  ignore_label, ", got ", values[i]);
    }
  });
}

template <typename scalar_t>
Job<scalar_t> make_job(const at::Tensor& logits, const at::Tensor& labels,
                       at::ArrayRef<double> scale, int64_t ignore_label) {
  return {logits.size(1),
          logits.size(2),
          logits.size(3),
          labels.size(1),
          labels.size(2),
          AxisPositions<scalar_t>(labels.size(1), logits.size(2), static_cast<scalar_t>(scale[0])),
          AxisPositions<scalar_t>(labels.size(2), logits.size(3), static_cast<scalar_t>(scale[1])),
          ignore_label};
}

// Tensors that a kernel can read, of one type.
struct Inputs {
  Inputs(const at::Tensor& logits, const at::Tensor& labels,
         const std::optional<at::Tensor>& weights)
      : logits(logits.contiguous()), labels(labels.contiguous()) {
    if (weights.has_value()) {
      this->weights = weights->to(logits.scalar_type()).contiguous();
    }
  }

  template <typename scalar_t>
  const scalar_t* weights_of(int64_t image) const {
    return weights.defined()
               ? weights.const_data_ptr<scalar_t>() + image * labels.size(1) * labels.size(2)
               : nullptr;
  }

  at::Tensor logits, labels, weights;
};

at::Tensor upsampled_cross_entropy_cpu(const at::Tensor& logits, const at::Tensor& labels,
                                       const std::optional<at::Tensor>& weights,
                                       at::ArrayRef<double> scale, int64_t ignore_label) {
  check_cross_entropy(logits, labels, weights, scale);
  const Inputs inputs(logits, labels, weights);
  check_labels(inputs.labels, logits.size(1), ignore_label);
  at::Tensor losses = at::empty(labels.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "upsampled_cross_entropy", [&] {
    const Job<scalar_t> job = make_job<scalar_t>(logits, labels, scale, ignore_label);
    const int64_t area = job.height * job.width;
    for (int64_t image = 0; image < logits.size(0); ++image) {
      const scalar_t* maps = inputs.logits.const_data_ptr<scalar_t>() +
                             image * job.num_classes * job.map_height * job.map_width;
      scalar_t* out = losses.mutable_data_ptr<scalar_t>() + image * area;
      at::parallel_for(0, job.height, 8, [&](int64_t begin, int64_t end) {
        RowWorker<scalar_t> worker(job, maps,
                                   inputs.labels.const_data_ptr<int64_t>() + image * area,
                                   inputs.weights_of<scalar_t>(image));
        for (int64_t y = begin; y < end; ++y) {
          worker.losses_of_row(y, out + y * job.width);
        }
      });
    }
  });
  return losses;
}

// The rows of the output between two rows of the map are worked on by one thread, in order: the
// sums do not depend on the number of threads.
template <typename scalar_t>
void backward_of_image(const Job<scalar_t>& job, const scalar_t* gradient, const scalar_t* logits,
                       const int64_t* labels, const scalar_t* weights, scalar_t* result) {
  const int64_t map_area = job.map_height * job.map_width;
  const int64_t row_size = job.num_classes * job.map_width;
  std::vector<int64_t> first_row(job.map_height + 1, job.height);
  for (int64_t y = job.height - 1; y >= 0; --y) {
    first_row[job.rows.lower[y]] = y;
  }
  for (int64_t i = job.map_height - 1; i >= 0; --i) {
    first_row[i] = std::min(first_row[i], first_row[i + 1]);
  }
  std::vector<uint8_t> row_is_finite(job.map_height, 1);
  for (int64_t row = 0; row < job.num_classes * job.map_height; ++row) {
    row_is_finite[row % job.map_height] &= are_finite(logits + row * job.map_width, job.map_width);
  }
  // (h, C, w): what the rows between i and i + 1 give to row i, and to row i + 1.
  std::vector<scalar_t> below(job.map_height * row_size), above(job.map_height * row_size);
  at::parallel_for(0, job.map_height, 2, [&](int64_t begin, int64_t end) {
    RowWorker<scalar_t> worker(job, logits, labels, weights);
    std::vector<scalar_t> sums(job.num_classes * (job.map_width + 1));
    for (int64_t i = begin; i < end; ++i) {
      const bool is_finite = row_is_finite[i] && row_is_finite[std::min(i + 1, job.map_height - 1)];
      for (int64_t y = first_row[i]; y < first_row[i + 1]; ++y) {
        worker.add_gradient_of_row(y, gradient + y * job.width, is_finite, sums,
                                   &below[i * row_size], &above[i * row_size]);
      }
    }
  });
  for (int64_t c = 0; c < job.num_classes; ++c) {
    for (int64_t i = 0; i < job.map_height; ++i) {
      scalar_t* out = result + c * map_area + i * job.map_width;
      add_scaled(&below[i * row_size + c * job.map_width], scalar_t(1), job.map_width, out);
      if (i > 0) {
        add_scaled(&above[(i - 1) * row_size + c * job.map_width], scalar_t(1), job.map_width, out);
      }
    }
    // In the last row the pixel above is the row itself.
    const int64_t last = job.map_height - 1;
    add_scaled(&above[last * row_size + c * job.map_width], scalar_t(1), job.map_width,
               result + c * map_area + last * job.map_width);
  }
}

at::Tensor upsampled_cross_entropy_backward_cpu(const at::Tensor& grad, const at::Tensor& logits,
                                                const at::Tensor& labels,
                                                const std::optional<at::Tensor>& weights,
                                                at::ArrayRef<double> scale, int64_t ignore_label) {
  check_cross_entropy(logits, labels, weights, scale);
  TORCH_CHECK(grad.sizes() == labels.sizes() && grad.scalar_type() == logits.scalar_type(),
              "upsampled_cross_entropy_backward: grad must be ", labels.sizes(), " of ",
              logits.dtype(), ", got ", grad.sizes(), " of ", grad.dtype());
  const Inputs inputs(logits, labels, weights);
  check_labels(inputs.labels, logits.size(1), ignore_label);
  const at::Tensor gradients = grad.contiguous();
  at::Tensor result = at::zeros(logits.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "upsampled_cross_entropy_backward", [&] {
    const Job<scalar_t> job = make_job<scalar_t>(logits, labels, scale, ignore_label);
    const int64_t area = job.height * job.width;
    const int64_t map_size = job.num_classes * job.map_height * job.map_width;
    for (int64_t image = 0; image < logits.size(0); ++image) {
      backward_of_image(job, gradients.const_data_ptr<scalar_t>() + image * area,
                        inputs.logits.const_data_ptr<scalar_t>() + image * map_size,
                        inputs.labels.const_data_ptr<int64_t>() + image * area,
                        inputs.weights_of<scalar_t>(image),
                        result.mutable_data_ptr<scalar_t>() + image * map_size);
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("upsampled_cross_entropy", &upsampled_cross_entropy_cpu);
  m.impl("upsampled_cross_entropy_backward", &upsampled_cross_entropy_backward_cpu);
}

}  // namespace deeplab2_d2
