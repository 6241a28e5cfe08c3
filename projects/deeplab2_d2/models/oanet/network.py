"""OANet as a Detectron2 meta architecture."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.panoptic_fpn import PanopticFPN
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from .classes import StuffChannels
from .merging import merge_instances_and_stuff
from .ranking import RankingCriterion, RankingHead, build_ranking_head, rank_instances
from .sharing import Features, build_stuff_backbone, compute_features
from .targets import Sample, check_sample, outputs
from .within_class import order_within_classes


@META_ARCH_REGISTRY.register()
class DeepLab2OANet(PanopticFPN):
    """
    Detectron2's Panoptic FPN with the paper's stuff branch and its spatial ranking module.

    Reference: OANet (arXiv:1903.05027). Mask R-CNN, FPN and the loader of their weights are
    Detectron2's: a checkpoint of its Panoptic FPN or Mask R-CNN loads by name.

    A training sample has ``image``, ``instances`` (``gt_boxes``, ``gt_classes`` as places among the
    things, ``gt_masks`` as BitMasks, which may overlap) and ``sem_seg`` ((H, W) int64, contiguous
    classes of the panoptic truth).

    In evaluation an image has ``panoptic_seg``, whose things have ``score`` and ``rank_score``,
    ``instances`` with contiguous classes, and ``sem_seg``, logits of all classes, if the stuff
    branch has them; as far as they are wanted.

    Attributes:
        new_parts: words in the names of what an ImageNet network, Mask R-CNN and Detectron2's
            Panoptic FPN do not have.
        twins: modules that start as another one; see :func:`give_to_twins`.
    """

    new_parts = ("ranking_head.", "sem_seg_head.", "backbone.fpn_")

    @configurable
    def __init__(
        self,
        *,
        stuff_channels: StuffChannels,
        stuff_backbone: Optional[nn.Module] = None,
        ranking_head: Optional[RankingHead] = None,
        ranking_criterion: Optional[RankingCriterion] = None,
        ranks_predicted: bool = False,
        trains_ranking_alone: bool = False,
        uses_detection_within_class: bool = False,
        is_stuff_connected: bool = True,
        outputs: Sequence[str] = ("panoptic_seg", "instances", "sem_seg"),
        **kwargs: Any,
    ):
        """
        Args:
            stuff_channels: classes of the stuff branch.
            stuff_backbone: the stuff branch's own; see :func:`build_stuff_backbone`.
            ranking_head: spatial ranking module; None: detection scores decide.
            ranking_criterion: its loss; needed with it.
            ranks_predicted: it is trained on predicted instances, not on those of the truth.
            trains_ranking_alone: everything else has no gradient and no loss.
            uses_detection_within_class: see :func:`order_within_classes`.
            is_stuff_connected: see :func:`merge_instances_and_stuff`.
            outputs: keys that an image's dict has.
            kwargs: as Detectron2's ``PanopticFPN``.
        """
        super().__init__(**kwargs)
        self.stuff_channels = stuff_channels
        self.stuff_backbone = stuff_backbone
        self.ranking_head, self.ranking_criterion = ranking_head, ranking_criterion
        self.ranks_predicted, self.trains_ranking_alone = ranks_predicted, trains_ranking_alone
        self.uses_detection_within_class = uses_detection_within_class
        # Of a checkpoint that has one backbone, both get the weights.
        self.twins = {} if stuff_backbone is None else {"stuff_backbone.": "backbone."}
        self.is_stuff_connected, self.outputs = is_stuff_connected, tuple(outputs)
        if trains_ranking_alone:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("ranking_head."))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        channels = StuffChannels.from_config(cfg)
        node = cfg.MODEL.DEEPLAB2.OANET
        arguments = {
            **super().from_config(cfg),
            "stuff_channels": channels,
            "stuff_backbone": build_stuff_backbone(cfg),
            "is_stuff_connected": node.CONNECTED_STUFF,
            "outputs": outputs(cfg),
        }
        if node.RANKING.MODULE:
            arguments.update(
                ranking_head=build_ranking_head(cfg),
                ranking_criterion=RankingCriterion(
                    thing_ids=channels.classes.thing_ids,
                    conflicts=node.RANKING.CONFLICTS,
                    weight=node.RANKING.LOSS_WEIGHT,
                ),
                ranks_predicted=node.RANKING.MASKS == "predicted",
                trains_ranking_alone=node.RANKING.ALONE,
                uses_detection_within_class=node.RANKING.DETECTION_WITHIN_CLASS,
            )
        return arguments

    def forward(self, batched_inputs: List[Sample]) -> Any:
        """
        Args:
            batched_inputs: one sample an image, see the class; in evaluation ``height`` and
                ``width`` may name the size of the outputs.

        Returns:
            In training a dict of losses (Eq. 1), else a dict an image.

        Raises:
            ValueError: in training, if a sample has no instances or no ``sem_seg``, or their sizes
                are not the image's.
        """
        if not self.training:
            return self.inference(batched_inputs)
        for sample in batched_inputs:
            check_sample(sample)
        images = self.preprocess_image(batched_inputs)
        if self.trains_ranking_alone:
            return self._ranking_losses(batched_inputs, images)
        features, stuff_features = compute_features(
            self.backbone, self.stuff_backbone, images.tensor
        )
        maps = [
            self.stuff_channels.targets(sample["sem_seg"].to(self.device))
            for sample in batched_inputs
        ]
        targets = ImageList.from_tensors(
            maps, self.backbone.size_divisibility, self.sem_seg_head.ignore_value
        ).tensor
        _, losses = self.sem_seg_head(stuff_features, targets)
        instances = [sample["instances"].to(self.device) for sample in batched_inputs]
        proposals, proposal_losses = self.proposal_generator(images, features, instances)
        _, detector_losses = self.roi_heads(images, features, proposals, instances)
        losses = {**losses, **proposal_losses, **detector_losses}
        return {**losses, **self._ranking_losses(batched_inputs, images, features)}

    def inference(self, batched_inputs: List[Sample], do_postprocess: bool = True) -> Any:
        """As :meth:`PanopticFPN.inference`, with the outputs that the class describes."""
        images = self.preprocess_image(batched_inputs)
        features, stuff_features = compute_features(
            self.backbone, self.stuff_backbone, images.tensor
        )
        semantic, _ = self.sem_seg_head(stuff_features, None)
        detections = self._detect(images, features)
        if not do_postprocess:
            return detections, semantic
        results = []
        for logits, detected, sample, size in zip(
            semantic, detections, batched_inputs, images.image_sizes
        ):
            results.append(self.postprocess(logits, detected, sample, size))
        return results

    def postprocess(
        self, logits: Tensor, detected: Instances, sample: Sample, input_size: Tuple[int, int]
    ) -> Dict[str, Any]:
        """
        Args:
            logits: (C, H, W) of the stuff branch, in the frame of the network's padded input.
            detected: instances in the frame of the network's input.
            sample: with the size of the outputs.
            input_size: (height, width) of the network's input without padding.

        Returns:
            The outputs of an image.
        """
        height = int(sample.get("height", input_size[0]))
        width = int(sample.get("width", input_size[1]))
        instances = detector_postprocess(detected, height, width)
        thing_ids = torch.tensor(self.stuff_channels.classes.thing_ids, device=logits.device)
        output: Dict[str, Any] = {}
        if "sem_seg" in self.outputs:
            output["sem_seg"] = sem_seg_postprocess(logits, input_size, height, width)
        if "panoptic_seg" in self.outputs:
            # Of stuff alone, normalised to a probability, as in the paper.
            stuff = logits[list(self.stuff_channels.stuff_channels)].softmax(dim=0)
            stuff = sem_seg_postprocess(stuff, input_size, height, width)
            output["panoptic_seg"] = self._merge(
                instances, self.stuff_channels.stuff_map(stuff), thing_ids, input_size
            )
        if "instances" in self.outputs:
            instances.pred_classes = thing_ids[instances.pred_classes]
            output["instances"] = instances
        return output

    def rank(self, instances: Instances, input_size: Tuple[int, int]) -> Tensor:
        """
        Args:
            instances: ``pred_masks`` (N, H, W) bool, ``pred_classes`` (N,) as places among the
                things, ``scores`` (N,).
            input_size: see :func:`rank_instances`.

        Returns:
            (N,) float32, the ranking scores that instances are painted by.

        Raises:
            ValueError: if the model has no ranking module.
        """
        if self.ranking_head is None:
            raise ValueError(
                "the model must have a ranking module (config key "
                "MODEL.DEEPLAB2.OANET.RANKING.MODULE), got ''"
            )
        masks, classes = instances.pred_masks, instances.pred_classes
        ranks = rank_instances(masks, classes, self.ranking_head, input_size)
        if not self.uses_detection_within_class:
            return ranks
        return order_within_classes(ranks, instances.scores, masks, classes)

    def _merge(
        self,
        instances: Instances,
        stuff_map: Tensor,
        thing_ids: Tensor,
        input_size: Tuple[int, int],
    ) -> Tuple[Tensor, List[Dict[str, Any]]]:
        # What is not painted is not drawn for the ranking module either.
        is_sure = ~(instances.scores.double() < self.combine_instances_score_thresh)
        places = is_sure.nonzero()[:, 0]
        sure = instances[is_sure]
        ranks = None if self.ranking_head is None else self.rank(sure, input_size)
        sure.pred_classes = thing_ids[sure.pred_classes]
        panoptic_map, segments = merge_instances_and_stuff(
            sure,
            stuff_map,
            stuff_ids=self.stuff_channels.classes.stuff_ids,
            rank_scores=ranks,
            score_threshold=self.combine_instances_score_thresh,
            overlap_threshold=self.combine_overlap_thresh,
            stuff_area_limit=int(self.combine_stuff_area_thresh),
            is_stuff_connected=self.is_stuff_connected,
        )
        index = places.tolist()
        for segment in segments:
            if segment["isthing"]:
                segment["instance_id"] = index[segment["instance_id"]]
        return panoptic_map, segments

    def _detect(self, images: ImageList, features: Features) -> List[Instances]:
        proposals, _ = self.proposal_generator(images, features, None)
        return self.roi_heads(images, features, proposals, None)[0]

    def _ranking_losses(
        self, samples: Sequence[Sample], images: ImageList, features: Optional[Features] = None
    ) -> Dict[str, Tensor]:
        if self.ranking_head is None or self.ranking_criterion is None:
            return {}
        if self.ranks_predicted:
            instances = self._predicted_masks(images, features)
        else:
            truth = [sample["instances"].to(self.device) for sample in samples]
            instances = [(each.gt_masks.tensor, each.gt_classes) for each in truth]
        maps = [sample["sem_seg"].to(self.device) for sample in samples]
        loss = self.ranking_criterion(self.ranking_head, instances, maps)
        return {"loss_ranking": loss}

    @torch.no_grad()
    def _predicted_masks(
        self, images: ImageList, features: Optional[Features]
    ) -> List[Tuple[Tensor, Tensor]]:
        """Masks and classes of the instances that would be painted, of each image."""
        # Only in evaluation do Detectron2's heads return instances.
        parts = (self.backbone, self.proposal_generator, self.roi_heads)
        for part in parts:
            part.eval()
        try:
            if features is None:
                features = self.backbone(images.tensor)
            detections = self._detect(images, features)
        finally:
            for part in parts:
                part.train()
        predicted = []
        for detected, (height, width) in zip(detections, images.image_sizes):
            is_sure = ~(detected.scores.double() < self.combine_instances_score_thresh)
            sure = detector_postprocess(detected[is_sure], height, width)
            predicted.append((sure.pred_masks, sure.pred_classes))
        return predicted
