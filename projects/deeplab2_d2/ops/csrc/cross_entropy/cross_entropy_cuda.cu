// Work division, forwards: one thread an output pixel upsamples the logits of all classes at its
// place, twice: for their maximum, and for the sum of exponentials.
// Backwards, three kernels. The first says where the map is finite. The second does as forwards and
// keeps, for each output pixel, the logarithm of that sum and the factor of its gradient. In the
// third, one thread a class and map pixel goes
// over the output pixels that its logit reaches, in raster order, so that sums never depend on the
// schedule; it needs the logits of 3 x 3 map pixels, which stay in registers. Output pixels without
// a gradient (all but the hardest ones) are skipped. No (C, H, W) tensor, no atomics.
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "cross_entropy.h"
#include "cross_entropy_device.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;

void check_limits(const at::Tensor& logits, const at::Tensor& labels) {
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(logits.size(0) * logits.size(1) < 65536 &&
                  logits.size(2) * logits.size(3) < kTooMany &&
                  labels.size(1) * labels.size(2) < kTooMany,
              "upsampled_cross_entropy: on a GPU images x classes must be at most 65535, and a map "
              "fewer than 2**31 pixels, got logits ",
              logits.sizes(), " and labels ", labels.sizes());
}

template <typename scalar_t>
Frame<scalar_t> make_frame(const at::Tensor& logits, const at::Tensor& labels,
                           at::ArrayRef<double> scale, int64_t ignore_label) {
  return {static_cast<int32_t>(logits.size(1)), static_cast<int32_t>(logits.size(2)),
          static_cast<int32_t>(logits.size(3)), static_cast<int32_t>(labels.size(1)),
          static_cast<int32_t>(labels.size(2)), static_cast<scalar_t>(scale[0]),
          static_cast<scalar_t>(scale[1]),      ignore_label};
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
  Truth<scalar_t> truth() const {
    return {labels.const_data_ptr<int64_t>(),
            weights.defined() ? weights.const_data_ptr<scalar_t>() : nullptr};
  }

  at::Tensor logits, labels, weights;
};

dim3 blocks_for(int64_t pixels, int64_t planes) {
  return dim3((pixels + kThreads - 1) / kThreads, planes);
}

at::Tensor upsampled_cross_entropy_cuda(const at::Tensor& logits, const at::Tensor& labels,
                                        const std::optional<at::Tensor>& weights,
                                        at::ArrayRef<double> scale, int64_t ignore_label) {
  check_cross_entropy(logits, labels, weights, scale);
  check_limits(logits, labels);
  const c10::cuda::CUDAGuard guard(logits.device());
  at::Tensor losses = at::empty(labels.sizes(), logits.options());
  if (losses.numel() == 0) {
    return losses;
  }
  const Inputs inputs(logits, labels, weights);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 blocks = blocks_for(labels.size(1) * labels.size(2), labels.size(0));
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "upsampled_cross_entropy", [&] {
    loss_kernel<scalar_t><<<blocks, kThreads, 0, stream>>>(
        make_frame<scalar_t>(logits, labels, scale, ignore_label),
        inputs.logits.const_data_ptr<scalar_t>(), inputs.truth<scalar_t>(),
        losses.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return losses;
}

at::Tensor upsampled_cross_entropy_backward_cuda(const at::Tensor& grad, const at::Tensor& logits,
                                                 const at::Tensor& labels,
                                                 const std::optional<at::Tensor>& weights,
                                                 at::ArrayRef<double> scale, int64_t ignore_label) {
  check_cross_entropy(logits, labels, weights, scale);
  TORCH_CHECK(grad.sizes() == labels.sizes() && grad.scalar_type() == logits.scalar_type() &&
                  grad.device() == logits.device(),
              "upsampled_cross_entropy_backward: grad must be ", labels.sizes(), " of ",
              logits.dtype(), " on ", logits.device(), ", got ", grad.sizes(), " of ", grad.dtype(),
              " on ", grad.device());
  check_limits(logits, labels);
  const c10::cuda::CUDAGuard guard(logits.device());
  at::Tensor result = at::empty(logits.sizes(), logits.options());
  if (result.numel() == 0) {
    return result;
  }
  const Inputs inputs(logits, labels, weights);
  const at::Tensor gradients = grad.contiguous();
  at::Tensor factors = at::empty(labels.sizes(), logits.options());
  at::Tensor log_totals = at::empty(labels.sizes(), logits.options());
  at::Tensor is_finite = at::empty({logits.size(0), logits.size(2), logits.size(3)},
                                   logits.options().dtype(at::kBool));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 pixel_blocks = blocks_for(labels.size(1) * labels.size(2), labels.size(0));
  const dim3 finite_blocks = blocks_for(logits.size(2) * logits.size(3), logits.size(0));
  const dim3 map_blocks =
      blocks_for(logits.size(2) * logits.size(3), logits.size(0) * logits.size(1));
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "upsampled_cross_entropy_backward", [&] {
    const auto frame = make_frame<scalar_t>(logits, labels, scale, ignore_label);
    if (labels.numel() > 0) {
      finite_kernel<scalar_t><<<finite_blocks, kThreads, 0, stream>>>(
          frame, inputs.logits.const_data_ptr<scalar_t>(), is_finite.mutable_data_ptr<bool>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
      factors_kernel<scalar_t><<<pixel_blocks, kThreads, 0, stream>>>(
          frame, gradients.const_data_ptr<scalar_t>(), inputs.logits.const_data_ptr<scalar_t>(),
          is_finite.const_data_ptr<bool>(), inputs.truth<scalar_t>(),
          PixelFactors<scalar_t>{factors.mutable_data_ptr<scalar_t>(),
                                 log_totals.mutable_data_ptr<scalar_t>()});
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    gradient_kernel<scalar_t><<<map_blocks, kThreads, 0, stream>>>(
        frame, inputs.logits.const_data_ptr<scalar_t>(), inputs.labels.const_data_ptr<int64_t>(),
        factors.const_data_ptr<scalar_t>(), log_totals.const_data_ptr<scalar_t>(),
        result.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) {
  m.impl("upsampled_cross_entropy", &upsampled_cross_entropy_cuda);
  m.impl("upsampled_cross_entropy_backward", &upsampled_cross_entropy_backward_cuda);
}

}  // namespace deeplab2_d2
