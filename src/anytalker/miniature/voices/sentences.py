"""Made-up sentences in nine languages: the words that the miniature's synthetic voices speak.

Every sentence is composed from our own word lists by small templates, so that a seeded generator gives any
amount of varied, pronounceable material without a text corpus. The lists were chosen for breadth of sound,
above all for lips: closures (m, b, p), teeth on lip (f, v), rounding (u, o, w), spreading (i, e),
and wide vowels (a).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from anytalker.errors import InputError


def _choices(text: str) -> tuple[str, ...]:
    """Split "one | two" into its trimmed alternatives."""
    return tuple(part.strip() for part in text.split("|") if part.strip())


@dataclass(frozen=True)
class Grammar:
    """Templates with slots in braces, and for each slot the alternatives that may fill it."""

    templates: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]


def _grammar(templates: str, **slots: str) -> Grammar:
    return Grammar(_choices(templates), {name: _choices(words) for name, words in slots.items()})


# Long because it is a table: the sentences of all languages.
@cache
def _grammars() -> dict[str, Grammar]:
    """One grammar for each language code."""
    return {
        "en": _grammar(
            "{subject} {verb} {object} {place}. | {time}, {subject} {verb} {object}. |"
            "{greeting}, {name}! {question} |"
            "{name} and {name} {plural} {object} {place}. | {opinion}, but {subject} {verb} {object}. |"
            "I counted {number} {things} and {number} {things} {place}. | {question} | {opinion}, {name}. |"
            "When {subject} {verb} {object}, {name} says: {exclamation} | {exclamation} {question} |"
            "The number is {number}, {number}, {number}. |"
            "{time}, {name} will {infinitive} {object}, {opinion}. |"
            "We should {infinitive} {object} {place}, and then {infinitive} {object}. |"
            "{adverb}, {subject} {verb} "
            "{object} because {subject} {verb} {object}. | Please {infinitive} {object} {time}.",
            subject="my brother|the old baker|a very small puppy|her favourite uncle|the quiet teacher|"
            "our new captain|"
            "the brave fisherman|somebody outside|the woman with the umbrella|this funny robot|"
            "the purple bird|"
            "a tired engineer|the voice on the phone|the youngest member|everybody in the room|the mayor|"
            "the weather",
            verb="buys|watches|moves|forgets|believes in|paints|chooses|opens|enjoys|carries|improves|"
            "pushes|writes about|"
            "laughs at|waits for|measures|follows|brings back|whispers about|thinks of",
            plural="prefer|discovered|shared|borrowed|wrapped|photographed|argued about|never found|cooked|wanted",
            infinitive="buy|watch|move|forget|believe|paint|choose|open|carry|push|measure|follow|wash|imagine|explore",
            object="a warm apple pie|the blue bicycle|five fresh fish|the wooden boat|a beautiful photograph|"
            "the whole family story|some very loud music|the empty mailbox|a pair of shoes|"
            "the moon above the valley|"
            "the first page of the book|an awful problem|the biggest balloon|a cup of bitter coffee|"
            "the wrong window|"
            "thirty white roses|a jumping frog|the heavy jewel box|my grandmother's recipe|the other half",
            place="by the river|in the middle of the park|behind the museum|at the top of the mountain|"
            "near my house|"
            "under the bridge|on the way home|across the ocean|beside the theatre|in front of the shop|"
            "over there",
            time="tomorrow morning|before breakfast|on Friday evening|every single summer|after the rain|"
            "right now|"
            "at half past seven|in February|a few years ago|during the movie|sooner or later",
            greeting="Hello|Good morning|Oh wow|Excuse me|Well|Hey|Welcome back|Thank you",
            name="Emma|Bob|Philippa|Matthew|Olivia|Wyatt|Zoe|Benjamin|Fatima|Hugo|Yuki|Pavel|Grace|Omar|Beatrice|Joy",
            question="Where have you been? | Would you move over, please? | How much money do we have? |"
            "Who is it? |"
            "Why are you always so busy? | Can I borrow your camera for a moment? |"
            "What time does the boat leave? |"
            "Did you see that huge wave? | Shall we go for a walk? | Are you sure about this?",
            exclamation="Watch out! | That is absolutely fabulous! | Oh no, not again! | Maybe, maybe not. |"
            "I love it! |"
            "You have to be joking! | Happy birthday! | Bravo! | Please, be quiet for a minute. |"
            "What a shame!",
            opinion="I am pretty sure|to be honest|as far as I know|it seems a bit odd|nobody told me|"
            "I hope so|"
            "that makes perfect sense|you may be right|it was a wonderful surprise|people always say so",
            adverb="Suddenly|Fortunately|Slowly|Obviously|Most of the time|Once upon a time|Apparently|However",
            things="apples|voices|wolves|mushrooms|bubbles|people|yellow leaves|pennies|cameras|elephants|pebbles",
            number="3|7|11|15|24|36|48|92|100|250|1400|2026",
        ),
        "de": _grammar(
            "{subject} {verb} {object} {place}. | {time} {verb} {subject} {object}. |"
            "{greeting}, {name}! {question} |"
            "{name} und {name} haben {number} {things} gesehen. | {question} {exclamation} |"
            "{subject} {verb} {object}, "
            "und {subject} {verb} {object}. | Die Nummer ist {number}, {number}, {number}.",
            subject="mein Bruder|die alte Bäckerin|ein kleiner Vogel|unser Lehrer|die müde Köchin|"
            "der Bürgermeister|"
            "die ganze Familie|das junge Mädchen|mein bester Freund",
            verb="kauft|sucht|öffnet|vergisst|bewundert|malt|trägt|findet|beobachtet|verschiebt|hört",
            object="das blaue Fahrrad|einen warmen Apfelkuchen|die schöne Musik|fünf frische Fische|"
            "ein großes Problem|"
            "den hölzernen Wagen|die falsche Tür|eine Tasse Kaffee|das verrückte Buch|zwölf weiße Rosen",
            place="am Fluss|hinter dem Museum|im Wald|vor dem Bahnhof|auf der Brücke|über den Wolken|in der Küche",
            time="Heute Abend|Morgen früh|Im Februar|Nach dem Regen|Jeden Sommer|Manchmal|Vor zwei Wochen",
            greeting="Guten Morgen|Hallo|Vielen Dank|Ach so|Willkommen|Entschuldigung",
            name="Emma|Jürgen|Sophie|Fabian|Ulrike|Moritz|Björn|Paula|Wolfgang",
            question="Wie geht es dir? | Wo bist du gewesen? | Haben wir genug Brot? | Warum lachst du? |Wer ist das?",
            exclamation="Das ist ja wunderbar! | Pass auf! | Um Himmels willen! |Vielleicht, vielleicht auch nicht.",
            things="Äpfel|Bäume|Pferde|Schmetterlinge|Münzen|Bilder|Wölfe",
            number="3|7|12|21|45|99|310|1800",
        ),
        "fr": _grammar(
            "{subject} {verb} {object} {place}. | {time}, {subject} {verb} {object}. |"
            "{greeting}, {name} ! {question} |"
            "{name} et {name} ont compté {number} {things}. | {exclamation} {question} |"
            "{subject} {verb} {object}, mais "
            "{subject} {verb} {object}. | Le numéro est {number}, {number}, {number}.",
            subject="mon frère|la vieille boulangère|un petit oiseau|notre voisin|le maire du village|"
            "ma meilleure amie|"
            "le jeune peintre|toute la famille|le bon pompier",
            verb="achète|regarde|oublie|ouvre|préfère|transporte|découvre|mange|photographie|pousse",
            object="une belle pomme verte|le vélo bleu|la mauvaise porte|un bouquet de fleurs|"
            "cinq poissons frais|"
            "une tasse de café|le vieux bateau|un gros problème|la première page du livre|du bon pain",
            place="au bord de la rivière|derrière le musée|sous le pont|dans la forêt|devant la boutique|"
            "sur la montagne",
            time="Demain matin|Ce soir|Au mois de février|Après la pluie|Tous les étés|Il y a deux ans",
            greeting="Bonjour|Bonsoir|Merci beaucoup|Bienvenue|Ah bon|Pardon",
            name="Amélie|Hugo|Pauline|Baptiste|Louise|François|Véronique|Mathieu",
            question="Où est-ce que tu vas ? | Comment ça va ? | Pourquoi pas ? | Qui a fermé la fenêtre ? |Tu viens ?",
            exclamation="C'est absolument magnifique ! | Attention ! | Peut-être bien. |"
            "Quelle bonne surprise ! | Oh là là !",
            things="pommes|oiseaux|papillons|champignons|bateaux|lumières|fenêtres",
            number="2|7|13|28|60|75|200|1500",
        ),
        "es": _grammar(
            "{subject} {verb} {object} {place}. | {time}, {subject} {verb} {object}. |"
            "¡{greeting}, {name}! {question} |"
            "{name} y {name} vieron {number} {things}. | {exclamation} {question} |"
            "{subject} {verb} {object} y "
            "{subject} {verb} {object}. | El número es {number}, {number}, {number}.",
            subject="mi hermano|la vieja panadera|un pájaro pequeño|nuestro vecino|el alcalde|"
            "mi mejor amiga|toda la familia|"
            "el buen pescador|la mujer del paraguas",
            verb="compra|mira|olvida|abre|prefiere|lleva|descubre|pinta|empuja|busca|escucha",
            object="una manzana muy fría|la bicicleta azul|la puerta equivocada|cinco peces frescos|"
            "una taza de café|"
            "el barco viejo|un problema enorme|la primera página del libro|un ramo de flores|"
            "la música bonita",
            place="junto al río|detrás del museo|bajo el puente|en el bosque|frente a la tienda|sobre la montaña",
            time="Mañana por la mañana|Esta noche|En febrero|Después de la lluvia|Cada verano|Hace dos años",
            greeting="Hola|Buenos días|Muchas gracias|Bienvenido|Vaya|Perdón",
            name="Pablo|Mónica|Ximena|Javier|Belén|Guillermo|Lucía|Ramón",
            question="¿Dónde has estado? | ¿Cómo te llamas? | ¿Por qué no? | ¿Quién viene a comer? |¿Qué hora es?",
            exclamation="¡Qué maravilla! | ¡Cuidado! | Puede ser, puede que no. | ¡Vamos, muévete! |¡Otra vez no!",
            things="manzanas|pájaros|mariposas|zapatos|barcos|monedas|ventanas",
            number="4|8|15|29|63|70|300|1900",
        ),
        "it": _grammar(
            "{subject} {verb} {object} {place}. | {time}, {subject} {verb} {object}. |"
            "{greeting}, {name}! {question} |"
            "{name} e {name} hanno visto {number} {things}. | {exclamation} {question} |"
            "{subject} {verb} {object}, ma "
            "{subject} {verb} {object}.",
            subject="mio fratello|la vecchia fornaia|un piccolo uccello|il nostro vicino|il sindaco|"
            "tutta la famiglia|"
            "la mia migliore amica|il bravo pescatore",
            verb="compra|guarda|dimentica|apre|preferisce|porta|scopre|dipinge|spinge|cerca",
            object="una mela verde|la bicicletta azzurra|la porta sbagliata|cinque pesci freschi|"
            "una tazza di caffè|"
            "la vecchia barca|un problema enorme|la prima pagina del libro|un mazzo di fiori|il buon pane",
            place="vicino al fiume|dietro il museo|sotto il ponte|nel bosco|davanti al negozio|sulla montagna",
            time="Domani mattina|Stasera|A febbraio|Dopo la pioggia|Ogni estate|Due anni fa",
            greeting="Buongiorno|Ciao|Grazie mille|Benvenuto|Va bene|Scusa",
            name="Giulia|Fabio|Beatrice|Matteo|Paola|Umberto|Viviana|Giuseppe",
            question="Dove sei stato? | Come va? | Perché no? | Chi ha chiuso la finestra? | Che ora è?",
            exclamation="Che meraviglia! | Attenzione! | Forse sì, forse no. | Mamma mia! |Bravo, bravissimo!",
            things="mele|uccelli|farfalle|scarpe|barche|monete|funghi",
            number="3|9|16|27|58|80|400|1700",
        ),
        "pt": _grammar(
            "{subject} {verb} {object} {place}. | {time}, {subject} {verb} {object}. |"
            "{greeting}, {name}! {question} |"
            "{name} e {name} viram {number} {things}. | {exclamation} {question} |"
            "{subject} {verb} {object}, mas "
            "{subject} {verb} {object}.",
            subject="meu irmão|a velha padeira|um pássaro pequeno|o nosso vizinho|o prefeito|toda a família|"
            "a minha melhor amiga|o bom pescador",
            verb="compra|olha|esquece|abre|prefere|leva|descobre|pinta|empurra|procura",
            object="uma maçã verde|a bicicleta azul|a porta errada|cinco peixes frescos|uma xícara de café|"
            "o barco velho|um problema enorme|a primeira página do livro|um ramo de flores|o pão quente",
            place="perto do rio|atrás do museu|debaixo da ponte|na floresta|em frente da loja|no alto da montanha",
            time="Amanhã de manhã|Hoje à noite|Em fevereiro|Depois da chuva|Todo verão|Há dois anos",
            greeting="Bom dia|Olá|Muito obrigado|Bem-vindo|Pois é|Desculpe",
            name="João|Fernanda|Beatriz|Vitor|Amanda|Paulo|Mônica|Guilherme",
            question="Onde você estava? | Como vai? | Por que não? | Quem fechou a janela? | Que horas são?",
            exclamation="Que maravilha! | Cuidado! | Talvez sim, talvez não. | Vamos embora! | De novo não!",
            things="maçãs|pássaros|borboletas|sapatos|barcos|moedas|cogumelos",
            number="2|8|14|26|55|90|500|1600",
        ),
        "pl": _grammar(
            "{subject} {verb} {object} {place}. | {time} {subject} {verb} {object}. |"
            "{greeting}, {name}! {question} |"
            "{exclamation} {question} | {subject} {verb} {object}, a {subject} {verb} {object}. | "
            "Mój numer to {number}, {number}, {number}.",
            subject="mój brat|stara piekarka|mały ptak|nasz sąsiad|burmistrz|cała rodzina|moja przyjaciółka|"
            "młody malarz",
            verb="kupuje|widzi|otwiera|lubi|maluje|niesie|znajduje|pamięta|fotografuje|przesuwa",
            object="zielone jabłko|niebieski rower|pięć świeżych ryb|filiżankę kawy|wielki problem|"
            "starą łódź|"
            "piękną muzykę|pierwszą stronę książki|bukiet białych kwiatów|ciepły chleb",
            place="nad rzeką|za muzeum|pod mostem|w lesie|przed sklepem|na górze|obok szkoły",
            time="Jutro rano|Dziś wieczorem|W lutym|Po deszczu|Każdego lata|Dwa lata temu",
            greeting="Dzień dobry|Cześć|Dziękuję bardzo|Witamy|Przepraszam|No dobrze",
            name="Zofia|Paweł|Małgorzata|Wojciech|Bożena|Michał|Ewa|Łukasz",
            question="Gdzie byłeś? | Jak się masz? | Dlaczego nie? | Kto zamknął okno? | Która jest godzina?",
            exclamation="To jest wspaniałe! | Uwaga! | Może tak, może nie. | O rany! | Pospiesz się!",
            number="3|6|11|24|57|81|600|1300",
        ),
        "tr": _grammar(
            "{subject} {place} {object} {verb}. | {time} {subject} {object} {verb}. |"
            "{greeting}, {name}! {question} |"
            "{exclamation} {question} | {subject} {object} {verb}, ama {subject} {object} {verb}. | "
            "Numaram {number}, {number}, {number}.",
            subject="kardeşim|yaşlı fırıncı|küçük bir kuş|komşumuz|bütün aile|en iyi arkadaşım|genç ressam|"
            "belediye başkanı",
            verb="alıyor|görüyor|açıyor|unutuyor|seviyor|taşıyor|buluyor|boyuyor|bekliyor|itiyor",
            object="yeşil elmayı|mavi bisikleti|beş taze balığı|yanlış kapıyı|bir fincan kahveyi|"
            "eski tekneyi|"
            "büyük bir problemi|güzel müziği|kitabın ilk sayfasını|beyaz çiçekleri",
            place="nehrin yanında|müzenin arkasında|köprünün altında|ormanda|dükkânın önünde|dağın tepesinde",
            time="Yarın sabah|Bu akşam|Şubat ayında|Yağmurdan sonra|Her yaz|İki yıl önce",
            greeting="Merhaba|Günaydın|Çok teşekkürler|Hoş geldiniz|Affedersiniz|Peki",
            name="Ayşe|Mehmet|Fatma|Burak|Zeynep|Volkan|Elif|Ömer",
            question="Neredeydin? | Nasılsın? | Neden olmasın? | Pencereyi kim kapattı? | Saat kaç?",
            exclamation="Bu harika! | Dikkat et! | Belki evet, belki hayır. | Vay be! | Haydi gidelim!",
            number="4|7|12|23|56|84|700|1200",
        ),
        "nl": _grammar(
            "{subject} {verb} {object} {place}. | {time} {verb} {subject} {object}. |"
            "{greeting}, {name}! {question} |"
            "{name} en {name} zagen {number} {things}. | {exclamation} {question} |"
            "{subject} {verb} {object}, maar "
            "{subject} {verb} {object}.",
            subject="mijn broer|de oude bakker|een kleine vogel|onze buurman|de burgemeester|het hele gezin|"
            "mijn vriendin",
            verb="koopt|bekijkt|opent|vergeet|schildert|draagt|vindt|hoort|verplaatst|bewaart",
            object="een groene appel|de blauwe fiets|vijf verse vissen|de verkeerde deur|een kop koffie|"
            "de oude boot|"
            "een groot probleem|mooie muziek|de eerste bladzijde|een bos witte bloemen",
            place="bij de rivier|achter het museum|onder de brug|in het bos|voor de winkel|op de berg",
            time="Morgenochtend|Vanavond|In februari|Na de regen|Elke zomer|Twee jaar geleden",
            greeting="Goedemorgen|Hallo|Dank je wel|Welkom|Pardon|Nou ja",
            name="Pieter|Femke|Willem|Bram|Sophie|Maarten|Fleur|Guus",
            question="Waar ben je geweest? | Hoe gaat het? | Waarom niet? | Wie heeft het raam dichtgedaan?",
            exclamation="Wat een wonder! | Pas op! | Misschien wel, misschien niet. | Schiet eens op!",
            things="appels|vogels|vlinders|schoenen|boten|munten",
            number="3|8|17|29|61|75|800|1100",
        ),
    }


def languages() -> tuple[str, ...]:
    """Codes of the languages that `random_sentence` knows."""
    return tuple(_grammars())


def random_sentence(rng: np.random.Generator, language: str = "en") -> str:
    """Compose one or two short sentences in a language, one of `languages()`."""
    grammar = _grammars().get(language)
    if grammar is None:
        raise InputError(f"language {language!r} has no word lists; choose one of: {', '.join(languages())}")
    pieces: list[str] = []
    rest = _pick(rng, grammar.templates)
    while "{" in rest:
        before, _, after = rest.partition("{")
        slot, _, rest = after.partition("}")
        pieces += [before, _pick(rng, grammar.slots[slot])]
    sentence = "".join(pieces) + rest
    for doubled in ("?.", "!.", ".."):
        sentence = sentence.replace(doubled, doubled[0])
    return sentence[0].upper() + sentence[1:]


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
