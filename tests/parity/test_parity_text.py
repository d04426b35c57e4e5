"""Text towers against another implementation, on shared random weights in the published layout."""

import json
import math

import open_clip
import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from discern.encoders.text import load_text_encoder
from discern.errors import DiscernError
from tests.parity.harness import CARDS, TOLERANCE, randomised, record_text, relative_difference

TEXTS = ["a photo of a liver.", "Pneumonia, left lower lobe!", "skin"]
BERT = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
WORDS = ["a", "photo", "of", "liver", "pneumonia", "left", "lower", "lobe", "skin", "the", ".", ",", "!"]


@pytest.fixture
def wordpiece(tmp_path):
    """A folder as the hub has it for BERT: config.json and vocab.txt."""
    folder = tmp_path / "text"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def reduced(name, **options):
    """The card with the text tower's options made small; names of tensors stay."""
    card = CARDS[name]
    loader = card.text.loader
    loader = loader.model_copy(update={"options": loader.options | options})
    return card.model_copy(update={"text": card.text.model_copy(update={"loader": loader, "d": 32})})


def ours(card, state, tmp_path, folder=None):
    file = tmp_path / "model.safetensors"
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, file)
    return load_text_encoder(card, {file.name: file}, folder or tmp_path)


def agree(name, encoder, truth):
    """The texts through our tower against the other side's; the figure is recorded."""
    figure = relative_difference(encoder.encode_text(TEXTS), truth.detach().numpy())
    record_text(name, figure)
    assert figure <= TOLERANCE


def ids_of(encoder):
    return encoder.tokenize(TEXTS)


CLIP_TEXT = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


@pytest.mark.parametrize("name", ["clip_b16", "clip_l14", "monet"])
def test_clip_in_the_layout_of_transformers(name, tmp_path):
    vision = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.CLIPConfig(
        text_config=CLIP_TEXT | {"projection_dim": 32}, projection_dim=32,
        vision_config=vision | {"image_size": 32, "patch_size": 8, "projection_dim": 32},
    )  # fmt: skip
    official = randomised(transformers.CLIPModel(config))
    encoder = ours(reduced(name, **CLIP_TEXT, projection_dim=32), official.state_dict(), tmp_path)
    ids, mask = ids_of(encoder)
    truth = official.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    agree(name, encoder, truth)
    assert encoder.logit_scale == pytest.approx(official.logit_scale.exp().item())


SMALL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2}
SMALL_VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}


@pytest.mark.parametrize("name", ["clip_g14", "make", "dermlip", "eva02"])
def test_clip_in_the_layout_of_open_clip(name, tmp_path):
    kind = open_clip.CustomTextCLIP if name == "eva02" else open_clip.CLIP
    official = randomised(kind(embed_dim=32, vision_cfg=dict(SMALL_VISION), text_cfg=dict(SMALL_TEXT)))
    card = reduced(name, embed_dim=32, text_cfg=SMALL_TEXT)
    encoder = ours(card, official.state_dict(), tmp_path)
    agree(name, encoder, official.encode_text(open_clip.tokenize(TEXTS)))
    assert encoder.logit_scale == pytest.approx(official.logit_scale.exp().item())


@pytest.mark.parametrize(
    ("name", "prefix", "pooler", "projection"),
    [
        ("biomedclip", "text.", "cls_last_hidden_state_pooler", "mlp"),
        ("unimedclip", "text_encoder.", "cls_last_hidden_state_pooler", "mlp"),
        ("conceptclip", "text.", "mean_pooler", "linear"),
    ],
)
def test_bert_towers_of_open_clip(name, prefix, pooler, projection, tmp_path, wordpiece):
    config = transformers.BertConfig(**BERT, vocab_size=40)
    official = open_clip.hf_model.HFTextEncoder(
        "bert", 32, config=config, pooler_type=pooler, proj_type=projection, pretrained=False
    )
    randomised(official)
    state = {prefix + k: v for k, v in official.state_dict().items() if ".pooler." not in k}
    state |= {"logit_scale": torch.tensor(1.5), "logit_bias": torch.tensor(-10.0)}
    state[f"{prefix}transformer.embeddings.position_ids"] = torch.arange(512)[None]  # as old files have it
    encoder = ours(reduced(name, **BERT, vocab_size=40, d=32), state, tmp_path, wordpiece)
    ids, mask = ids_of(encoder)
    assert ids.shape[1] == CARDS[name].text.context_length
    assert mask.sum(1).tolist() == [8, 8, 3]
    agree(name, encoder, official(ids))
    assert encoder.logit_scale == pytest.approx(math.exp(1.5))
    assert encoder.logit_bias == (-10.0 if name == "conceptclip" else 0.0)


def bert(arch="BertModel", **config):
    kind = getattr(transformers, arch)
    return randomised(kind(kind.config_class(**(BERT | config))))


@pytest.mark.parametrize("name", ["cxr_clip", "mammo_clip"])
def test_last_token_towers(name, tmp_path, wordpiece):
    text, linear = bert(vocab_size=40), randomised(torch.nn.Linear(48, 32))
    state = {f"text_encoder.text_encoder.{k}": v for k, v in text.state_dict().items()}
    state |= {f"text_projection.projection.{k}": v for k, v in linear.state_dict().items()}
    state["logit_scale"] = torch.tensor(2.0)
    encoder = ours(reduced(name, **BERT, vocab_size=40, d=32), state, tmp_path, wordpiece)
    singly = []
    for one in TEXTS:  # without padding the last token is the last
        ids, mask = encoder.tokenize([one])
        singly.append(linear(text(input_ids=ids[:, : mask.sum()]).last_hidden_state[:, -1]))
    agree(name, encoder, torch.cat(singly))


@pytest.mark.parametrize("name", ["flair", "keepfit"])
def test_fundus_towers(name, tmp_path, wordpiece):
    text, linear = bert(vocab_size=40), randomised(torch.nn.Linear(48, 32, bias=False))
    state = {f"text_model.model.{k}": v for k, v in text.state_dict().items()}
    state |= {
        "text_model.projection_head_text.projection.weight": linear.weight,
        "logit_scale": torch.ones(()),
    }
    encoder = ours(reduced(name, **BERT, vocab_size=40, d=32), state, tmp_path, wordpiece)
    ids, mask = ids_of(encoder)
    assert ids.shape[1] == 8  # padded to the longest text only
    hidden = text(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    mean = sum(hidden[i].mean(dim=1) for i in (1, 2, 4)) / 3
    truth = linear(mean / mean.norm(dim=-1, keepdim=True))
    agree(name, encoder, truth)


def test_ct_clip(tmp_path, wordpiece):
    text, linear = bert(vocab_size=40), randomised(torch.nn.Linear(48, 32, bias=False))
    state = {f"text_transformer.{k}": v for k, v in text.state_dict().items()}
    state |= {"to_text_latent.weight": linear.weight, "temperature": torch.tensor(1.0)}
    state["to_text_latent_extra.weight"] = linear.weight + 1  # another head, not this one
    encoder = ours(reduced("ct_clip", **BERT, vocab_size=40, d=32), state, tmp_path, wordpiece)
    ids, mask = ids_of(encoder)
    truth = linear(text(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])
    agree("ct_clip", encoder, truth)
    assert encoder.logit_scale == pytest.approx(math.e)


def test_merlin(tmp_path):
    folder = tmp_path / "text"
    vocabulary = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [("<s>", 0), ("</s>", 2)]
    fast.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    saved = PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", unk_token="<unk>")
    saved.save_pretrained(folder)
    config = {"attention_window": [8] * 2, "num_hidden_layers": 2, "pad_token_id": 1, "vocab_size": 40}
    config |= {"max_position_embeddings": 1030, "type_vocab_size": 1}
    text = bert("LongformerModel", **config)
    linear = randomised(torch.nn.Linear(48, 32))
    state = {f"encode_text.text_encoder.{k}": v for k, v in text.state_dict().items()}
    state |= {f"encode_text.linear_layer.{k}": v for k, v in linear.state_dict().items()}
    state["logit_scale"] = torch.tensor(1.0)
    encoder = ours(reduced("merlin", **(BERT | config), d=32), state, tmp_path, folder)
    ids, mask = ids_of(encoder)
    assert mask.sum(1).tolist() == [8, 8, 3]  # lower case, punctuation apart
    truth = linear(text(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])
    agree("merlin", encoder, truth)


UNKNOWN = 2


def sentencepiece_model(file):
    """A real SentencePiece model with SigLIP's special tokens, trained on two sentences."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a liver pneumonia", "left lower lobe skin"] * 100),
        model_prefix=str(file.with_suffix("")), vocab_size=40, hard_vocab_limit=False, num_threads=1,
        pad_id=-1, bos_id=-1, eos_id=1, unk_id=UNKNOWN, minloglevel=2,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["siglip", "medsiglip"])
def test_siglip(name, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    sentencepiece_model(folder / "spiece.model")
    (folder / "config.json").write_text('{"model_type": "siglip"}')
    names = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"} | names))
    size = CLIP_TEXT | {"vocab_size": 40, "max_position_embeddings": 64, "projection_size": 32}
    vision = CLIP_TEXT | {"image_size": 32, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=size, vision_config=vision)
    official = randomised(transformers.SiglipModel(config))
    encoder = ours(reduced(name, **size), official.state_dict(), tmp_path, folder)
    ids, _ = ids_of(encoder)
    assert ids.shape[1] == 64
    assert (ids != UNKNOWN).all()  # case and punctuation went before the vocabulary was asked
    assert (ids[:, -1] == 1).all()  # padded with the end of text
    agree(name, encoder, official.get_text_features(input_ids=ids).pooler_output)
    assert encoder.logit_bias == pytest.approx(official.logit_bias.item())


def test_every_text_tower_reads_tensors_that_its_image_tower_does_not():
    for card in CARDS.all():
        if card.text is not None:
            wanted = set(card.text.loader.prefixes)
            assert not wanted & set(card.loader.prefixes), card.name
            assert "{label}" in card.text.prompt
            assert wanted <= set(card.wanted_prefixes())


def test_a_missing_tensor_aborts(tmp_path, wordpiece):
    text = bert(vocab_size=40)
    state = {f"text_transformer.{k}": v for k, v in text.state_dict().items()}
    state |= {"to_text_latent.weight": torch.ones(32, 48), "temperature": torch.tensor(1.0)}
    del state["text_transformer.encoder.layer.1.output.dense.weight"]
    with pytest.raises(DiscernError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        ours(reduced("ct_clip", **BERT, vocab_size=40, d=32), state, tmp_path, wordpiece)


def test_models_without_text_say_why():
    for name in ("uni", "dinov2", "llava"):
        with pytest.raises(DiscernError, match="has no text tower"):
            load_text_encoder(CARDS[name], {}, None)
