"""The words that stand in every text of a language: they tell the language, and nobody searches for them."""

_LISTS = {
    "en": """a about after all also am an and any are as at be because been before being between both but by can could
        did do does each for from had has have he her here him his how i if in into is it its me more most my no nor
        not now of off on only or other our out over she should so some such than that the their them then there these
        they this those through to too under until up very was we were what when where which while who whom why will
        with would you your""",
    "de": """aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dem den denn der des dich
        die dies diese diesem diesen dieser dieses dir doch du durch ein eine einem einen einer eines er es euch euer
        für gegen hat hatte hatten haben habe hier ich ihm ihn ihnen ihr ihre ihren ihrer im in ins ist ja jede jeder
        jedes kann kein keine können man mehr mein mich mir mit muss nach nicht noch nur ob oder ohne sehr sein seine
        sich sie sind so über um und uns unser unter vom von vor war waren was weil wenn wer werden wie wir wird wo
        wurde zu zum zur zwischen""",
    "fr": """ai au aucun aussi autre aux avait avant avec avoir c ce cela celle celui ces cet cette chez comme d dans
        de depuis des donc du elle elles en encore entre est et étaient était étant été être eu fait il ils j je
        jusque l la le les leur leurs lors lui m ma mais me même mes moi mon n ne ni nos notre nous on ont ou où par
        pas pendant peut plus pour qu quand que quel quelle qui quoi s sa sans se sera ses si son sont sous sur t ta
        te tes toi ton tous tout toute très tu un une vos votre vous y à ça""",
    "es": """al algo algunos ante antes aquí aunque cada como con contra cuál cuando de del desde donde dos durante e
        el él ella ellas ellos en entre era eran es esa ese eso esta está estaba estaban están estas este esto estos
        fue fueron ha había han hasta hay la las le les lo los más me mi mientras muy nada ni no nos nosotros o os
        otra otro para pero poco por porque que qué quien se sea según ser si sí sido sin sobre son su sus también tan
        tanto te tiene todo todos tu tú un una uno unos y ya yo""",
    "it": """a abbiamo ad agli ai al alla alle allo anche avere aveva c che chi ci ciò come con contro così cui d da
        dagli dai dal dalla dalle de degli dei del della delle dello di dove e è ed era erano essere fra gli ha hai
        hanno ho i il in io l la le lei li lo loro lui ma mi mia mio molto ne negli nei nel nella nelle nello noi non
        nostro o ogni per perché più poi può quale quando quanto quella quelle quelli quello questa queste questi
        questo se sei senza si sia sono stata stato su sua sue sugli sui sul sulla sulle suo suoi tra tu tutti tutto
        un una uno v vi voi""",
    "pt": """a à ainda além ao aos aquela aquele as às até cada com como contra da das de dela dele depois do dos e é
        ela elas ele eles em entre era eram essa esse esta está estão estava estavam este eu foi foram há isso isto já
        lhe mais mas me mesmo meu minha muito na não nas nem no nos nós o onde os ou para pela pelas pelo pelos por
        porque qual quando que quem se seja sem ser será seu seus só sob sobre são sua suas também te tem têm ter teu
        tinha toda todo todos tu um uma umas uns você vocês""",
    "nl": """aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een eens en er
        ge geen geweest haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je kan kon kunnen
        maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen
        toch toen tot u uit uw van veel voor want waren was wat we wel werd wezen wie wij wil worden wordt zal ze zelf
        zich zij zijn zo zonder zou""",
    "sv": """alla allt att av blev bli blir då de dem den denna deras dess det detta dig din dina ditt du där efter
        eller en ett för från ha hade han har hans henne hennes hon honom hur här i icke ingen inom inte jag ju kan
        kunde man med mellan men mig min mina mitt mot mycket ni nu när någon något några och om oss på samma sedan
        sig sin sina sitt ska skulle som så till under upp ut utan vad var vara varför vi vid vilken är över""",
    "da": """af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din disse du efter
        eller en end er et for fra ham han hans har havde have hende hendes her hos hun hvad hvis hvor i ikke ind jeg
        jo kunne man mange med meget men mig min mine mit mod når ned noget nogle nu og også om op os over på selv sig
        sin sine sit skal skulle som til ud under var vi vil ville vor være været""",
    "no": """alle at av bare begge ble blei bli blir da de deg dem den denne der dere deres det dette di din disse
        ditt du eg ein eller elles en enn er et etter for fordi fra få før ha hadde han hans har hennes her hun hva
        hvem hver hvis hvor hvordan i ikke ikkje ingen inn jeg kan kunne man mange med meg meget mellom men mi min
        mitt mot mye når nå noe noen og også om opp oss over på samme seg selv si sin sine sitt skal skulle som så til
        ut uten var vi vil ville vår være vært""",
    "fi": """ei eivät en ennen että he hän häneen hänen häntä ja joka joko jonka jos jossa jotka kanssa keitä ketä
        koska kuin kuka kun me mihin mikä mitä mukaan mutta myös ne niiden niin nyt näiden ole olemme olen olet oli
        olisi olivat olla on ovat se sekä sen siinä sitä sinä tai te tuo tämä tämän vaan vai vaikka voi""",
    "pl": """aby ale albo bardzo bez bo by być był była było były ci co czy dla do gdy go i ich ile im inne ja jak
        jako je jego jej jest jeszcze już kiedy kto która które który lub ma mi może można na nad nie nich nim niż o
        od on ona oraz po pod przed przez przy są się siebie są ta tak także tam te tego tej ten to tu tylko tym u w
        we więc wszystko z za ze że""",
    "cs": """aby ale ani ano asi až být bez bude by byl byla bylo co což či do ho i já jak jako je jeho její jejich
        jen ještě ji již jsem jsou k kde kdo když která které který ke má mezi mi může na nad nebo není než ni o od on
        ona po pod podle pro proto protože při s se si své ta tak také tam tedy ten tento to tom tu ty u už v ve více
        však z za ze že""",
    "ro": """acea aceasta această acest acesta aceste acum ai al ale am ar are asupra au avea că care ce cel cea cele
        cu cum da dacă dar de decât din după ea ei el ele era este eu face fi fie fiind fost iar în între la le lor
        lui mai mult nici noi nu o pe pentru prin sa sale sau să se și sunt sub te tot un una unde unei unor unui va
        voi vor""",
    "tr": """acaba ama ancak aslında bana bazı ben bile bir biz böyle bu buna bunu bunun çok çünkü da daha de değil
        diye gibi hem hep her için ile ise kadar ki kim mi mı mu nasıl ne neden o olan olarak oldu olduğu olur ona
        onlar onu onun sen siz şey şu tüm ve veya ya yani""",
    "hu": """a az azok azt azon be csak de e egy ez ezek ezt el én és fel ha hogy hogyan így is itt jó ki kell le lesz
        lehet majd még meg mert mi mint minden most nagy ne nem nincs ő ők olyan ott össze pedig sem szerint talán te
        több úgy után vagy vagyok van vannak volt voltak""",
    "id": """ada adalah agar akan antara apa atau bagi bahwa banyak bisa dalam dan dapat dari dengan di dia hanya
        harus ini itu jika juga kami karena ke kepada kita lebih maka mereka oleh pada para saat saja sangat saya
        sebagai seperti sudah telah tetapi tidak untuk yang""",
    "ca": """a al als amb això aquest aquesta aquests així com d de del dels des després el ella ells els em en entre
        era és està et ha han hi i ja l la les li llur més meu molt n ni no nosaltres o on per però perquè pel pels
        que què qui s sa se ser seu seva si sobre són també un una unes uns va""",
    "ru": """а без бы был была были было быть в вам вас весь во вот все всех вы где да даже для до его ее если есть
        еще же за здесь и из или им их к как ко когда кто ли мне может мы на над надо не него нет ни них но о об один
        он она они оно от по под после при с со так также такой там то того тоже только том ты у уже чем что чтобы эта
        эти это этот я""",
    "hi": """अपना अपनी अपने अब आप इन इस इसका इसकी इसके इसमें उन उनका उनकी उनके उस उसका उसकी उसके एक और कर करता करते
        करना करने का कि किया की कुछ के को कोई कौन क्या गई गया गए जब जहाँ जा जाता जाती जाते जैसे जो तक तब तो था थी थे
        द्वारा न नहीं ने पर बहुत भी मगर में मैं यदि यह यहाँ या ये रहा रही रहे लिए लेकिन व वह वहाँ वे सब साथ सभी से हम
        ही हुआ हुई हुए हूँ है हैं हो होता होती होते होना""",
}

COMMON_WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}
"""By ISO 639-1 code. For Chinese, Japanese, Korean and Thai there are none: their texts have no spaces to find them."""
