"""What the text teacher says is the mean over a text's own tokens."""

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from recipes.tiny_teachers import text_features


def small_teacher(folder):
    """Write a random BERT of MiniLM's width and one layer."""
    config = BertConfig(hidden_size=384, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=8, vocab_size=5)  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False)
    save_file(model.state_dict(), folder / "model.safetensors")
    config.save_pretrained(folder)
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")  # noqa: S106
    wrapped.save_pretrained(folder)
    return model.eval()


def test_padding_changes_no_vector_and_the_order_is_kept(tmp_path):
    model = small_teacher(tmp_path)
    found = text_features(tmp_path, ["a b c a", "a", "b c"])
    with torch.inference_mode():
        for row, ids in enumerate([[2, 3, 4, 2], [2], [3, 4]]):
            states = model.to(torch.float32)(torch.tensor([ids])).last_hidden_state[0]
            expected = torch.nn.functional.normalize(states.mean(0), dim=0)
            assert torch.dot(found[row], expected) > 0.999
    assert torch.dot(found[0], found[1]) < 0.99
